/** What a language model's fit to a text is reported as, whatever the model. */

/** How well a model predicts tokens. */
export interface Likelihood {
  /** Mean negative log-likelihood of a token, in nats. */
  nll: number;
  /** e to the nll. */
  perplexity: number;
  /** Bits that the model needs for each byte of the text (UTF-8), comparable between tokenizers; null where the bytes are not known. */
  bitsPerByte: number | null;
  /** Tokens that were predicted. */
  tokens: number;
  /** Bytes of text that these tokens stand for; null where they are not known. */
  bytes: number | null;
}

/** The report from a sum of negative log-likelihoods in nats. */
export function likelihood(sum: number, tokens: number, bytes: number | null): Likelihood {
  const nll = sum / tokens;
  return { nll, perplexity: Math.exp(nll), bitsPerByte: bytes === null || bytes === 0 ? null : sum / Math.LN2 / bytes, tokens, bytes };
}
