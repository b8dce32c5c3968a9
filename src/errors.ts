/**
 * The error classes of groundup. Every message reads `<where>: <what>, expected <…>, got <…>. <what to do>`,
 * so that a person can act on it without opening the source. A class exists where a caller may want to react differently.
 */
export class GroundupError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** Shapes, dtypes or arguments of a tensor operation do not fit together. */
export class ShapeError extends GroundupError {}

/** A tensor was used after it had been disposed. The message names the op, the shape and where it was freed. */
export class UseAfterFreeError extends GroundupError {}

/** More live bytes than the limit allows. The message lists the largest owners. */
export class OutOfMemoryError extends GroundupError {}

/** A file from outside (weights, tokenizer, config, data) is malformed, cut off or hostile. */
export class FormatError extends GroundupError {}

/** A recipe, flag or config key is unknown, missing or contradictory. Carries all problems at once. */
export class ConfigError extends GroundupError {}

/** Training data is unusable: empty, too small, binary, or not what the recipe says. */
export class DataError extends GroundupError {}

/** A run folder can't be used as asked: locked by another process, changed recipe, unwritable disk. */
export class RunError extends GroundupError {}

/** A number that must be finite is not. The message names the first bad tensor and the step. */
export class NonFiniteError extends GroundupError {}

/** A model can't be had from a hub: no such model, no permission, no connection, or other bytes than were promised. */
export class HubError extends GroundupError {}
/** A chat template is malformed, refuses the messages, or takes too much. */
export class TemplateError extends GroundupError {
  /** `syntax`: no Jinja. `raised`: the template's own words, by `raise_exception`. `limit`: it had to be stopped. `failed`: the messages do not fit it. */
  readonly reason: "syntax" | "raised" | "limit" | "failed";
  /** Counted from 1; null where it is not known. */
  readonly line: number | null;

  constructor(message: string, reason: TemplateError["reason"], line: number | null = null) {
    super(message);
    this.reason = reason;
    this.line = line;
  }
}
