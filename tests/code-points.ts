/** For each UTF-16 unit of a text, and its end, how many code points stand before it: the places of Python's tokenizers. */
export function codePointPlaces(text: string): number[] {
  const places: number[] = [];
  let count = 0;
  for (const character of text) {
    for (let i = 0; i < character.length; i++) places.push(count);
    count++;
  }
  return [...places, count];
}
