/** Text as a person is shown it, in a terminal or on a page. */

/**
 * Control characters as the symbols that Unicode has for them (␇, ␛, ␡; U+FFFD for C1, which have none), newline and tab left as they are: a model's or
 * a stranger's text must not ring, recolour or rewrite a terminal.
 */
export function visible(text: string): string {
  return text.replace(/(?![\n\t])\p{Cc}/gu, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? "\u2421" : "\ufffd";
  });
}

/** `visible` where it goes to a terminal; a file or a pipe gets the text as it is. */
export const shownOn = (stream: { readonly isTTY?: boolean }, text: string): string => (stream.isTTY === true ? visible(text) : text);

/** The width of a terminal in characters: 80 where it is no terminal, or one that reports none. */
export const columnsOf = (stream: { readonly columns?: number }): number => stream.columns || 80;
