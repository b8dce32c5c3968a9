/** The time as `strftime_now` of a template gives it: the text of each letter of Python's `strftime`, in the C locale. */

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/** The text of each letter, `%` itself not among them. Local time. */
export function clockOf(date: Date): Record<string, string> {
  const two = (n: number): string => String(n).padStart(2, "0");
  const [year, month, day, weekday] = [date.getFullYear(), date.getMonth(), date.getDate(), date.getDay()];
  const [hour, minute, second] = [two(date.getHours()), two(date.getMinutes()), two(date.getSeconds())];
  const twelve = two(date.getHours() % 12 || 12);
  const half = date.getHours() < 12 ? "AM" : "PM";
  const dayOfYear = Math.round((Date.UTC(year, month, day) - Date.UTC(year, 0, 1)) / 86_400_000);
  // Weeks that begin on a Sunday, on a Monday: those before the first such day are week 0.
  const week = (begins: number): string => two(Math.floor((dayOfYear + 7 - ((weekday - begins + 7) % 7)) / 7));
  const short = two(year % 100);
  const [a, b] = [DAYS[weekday].slice(0, 3), MONTHS[month].slice(0, 3)];
  const dateInNumbers = `${two(month + 1)}/${two(day)}/${short}`;
  const time = `${hour}:${minute}:${second}`;
  const padded = String(day).padStart(2, " ");
  return {
    ...{ Y: String(year), y: short, C: two(Math.floor(year / 100)), m: two(month + 1), B: MONTHS[month], b, h: b, d: two(day), e: padded },
    ...{ A: DAYS[weekday], a, w: String(weekday), u: String(weekday || 7), j: String(dayOfYear + 1).padStart(3, "0"), U: week(0), W: week(1) },
    ...{ H: hour, I: twelve, M: minute, S: second, f: `${String(date.getMilliseconds()).padStart(3, "0")}000`, p: half },
    ...{ D: dateInNumbers, x: dateInNumbers, F: `${year}-${two(month + 1)}-${two(day)}`, T: time, X: time, R: `${hour}:${minute}` },
    ...{ c: `${a} ${b} ${padded} ${time} ${year}`, r: `${twelve}:${minute}:${second} ${half}` },
    ...{ s: String(Math.floor(date.getTime() / 1000)), z: "", Z: "" },
  };
}
