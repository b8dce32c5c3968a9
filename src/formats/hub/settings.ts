/**
 * Where the hub and its cache are, by the environment variables of Python's huggingface_hub, so that both find the same files.
 *
 * Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { ConfigError } from "../../errors.ts";
import { absentOr } from "../node-file.ts";

/** What a pull goes by. */
export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  /** Never in a message, a log or a request to another host. */
  readonly token: string | null;
  /** The folder with `models--org--name`. */
  readonly cache: string;
  readonly offline: boolean;
}

/** The hub that is meant where HF_ENDPOINT names none. */
export const DEFAULT_ENDPOINT = "https://huggingface.co";

export type Environment = Readonly<Record<string, string | undefined>>;

const isOn = (value: string | undefined): boolean => value !== undefined && /^(1|on|yes|true)$/i.test(value);

function hfHome(env: Environment): string {
  if (env.HF_HOME) return resolve(expanded(env.HF_HOME));
  return join(env.XDG_CACHE_HOME ? resolve(expanded(env.XDG_CACHE_HOME)) : join(homedir(), ".cache"), "huggingface");
}

const expanded = (path: string): string => path.replace(/^~(?=\/|$)/, homedir());

/** The cache's folder, which need not be there yet. */
export function hubCache(env: Environment = process.env): string {
  const given = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  return given ? resolve(expanded(given)) : join(hfHome(env), "hub");
}

/** @throws ConfigError for an endpoint that is no URL, or a token that can't be one */
export function hubSettings(options: { offline?: boolean } = {}, env: Environment = process.env): HubSettings {
  const endpoint = (env.HF_ENDPOINT || DEFAULT_ENDPOINT).replace(/\/+$/, "");
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol) || new URL(endpoint).username !== "")
    throw new ConfigError(`HF_ENDPOINT: not a hub's address, expected http:// or https:// and a host, got ${JSON.stringify(endpoint)}. Correct or unset it.`);
  return { endpoint, token: tokenOf(env), cache: hubCache(env), offline: options.offline === true || isOn(env.HF_HUB_OFFLINE) };
}

/** From HF_TOKEN, or the file that `hf auth login` writes. */
function tokenOf(env: Environment): string | null {
  const file = env.HF_TOKEN_PATH ? expanded(env.HF_TOKEN_PATH) : join(hfHome(env), "token");
  const token = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || contentOf(file)).trim();
  if (token === "") return null;
  // What a header can't hold would end up in the error message of the runtime.
  if (!/^[\x21-\x7e]{1,1000}$/.test(token))
    throw new ConfigError(
      `${env.HF_TOKEN ? "HF_TOKEN" : file}: not a token, expected one word of letters and digits, got something else (not shown). Copy the token again.`,
    );
  return token;
}

function contentOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    return absentOr(file, cause, "");
  }
}
