/** Modules, layers, initialisers. */
export { ATTENTION_POINTS, type AttendOptions, attend, type ForwardContext, type LayerState } from "./context.ts";
export {
  type ExpertLoad,
  expertLoad,
  loadBalancingLoss,
  type MixOptions,
  mixExperts,
  type RouteOptions,
  RouteRecord,
  type Routes,
  routerZLoss,
  routeTokens,
} from "./experts.ts";
export * as init from "./init.ts";
export {
  BatchNorm,
  Dropout,
  Embedding,
  type Layer,
  LayerNorm,
  Linear,
  MultiHeadAttention,
  projections,
  RMSNorm,
  Sequential,
  sinusoidalPositions,
  sumOf,
} from "./layers.ts";
export { buffer, type ForwardHook, Module, Owned, type Pattern, parameter, parameterReplacer, replaceParameter } from "./module.ts";
export { through } from "./through.ts";
