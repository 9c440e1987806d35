import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CommandFailure, EXIT, usageFailure } from './failure.ts'

export interface ConnectionFlags {
  readonly endpoint?: string
  readonly keyFile?: string
  readonly data?: string
}

export interface Connection {
  readonly endpoint: URL
  readonly keyId: string
  readonly secret: string
}

type Environment = Readonly<Record<string, string | undefined>>
const DEFAULT_ENDPOINT = 'http://127.0.0.1:8370'

/** The text of a file, or undefined when there is none. Any other trouble with it is a usage failure. */
function findFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw usageFailure(`Cannot read ${path} (${code}). Check who may read it.`)
  }
}

function parseEndpoint(text: string, source: string): URL {
  const url = URL.canParse(text.trim()) ? new URL(text.trim()) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.username !== '') {
    throw usageFailure(`${source} takes http://HOST:PORT, not '${text.trim().slice(0, 80)}'.`)
  }
  return url
}

function findEndpoint(flags: ConnectionFlags, environment: Environment): URL {
  if (flags.endpoint !== undefined) return parseEndpoint(flags.endpoint, '--endpoint')
  const inData = (folder: string) => {
    const path = join(folder, 'endpoint')
    const text = findFile(path)
    return text === undefined ? undefined : parseEndpoint(text, path)
  }
  const flagged = flags.data === undefined ? undefined : inData(flags.data)
  if (flagged !== undefined) return flagged
  if (environment.CALOTYPE_ENDPOINT) return parseEndpoint(environment.CALOTYPE_ENDPOINT, 'CALOTYPE_ENDPOINT')
  if (flags.data !== undefined) {
    const message = `No server runs on ${flags.data}. Start it: calotype serve --data ${flags.data}`
    throw new CommandFailure(EXIT.unreachable, message)
  }
  const kept = environment.CALOTYPE_DATA ? inData(environment.CALOTYPE_DATA) : undefined
  return kept ?? new URL(DEFAULT_ENDPOINT)
}

interface Key {
  readonly keyId: string
  readonly secret: string
}

function findKeyFile(path: string): Key | undefined {
  const text = findFile(path)
  if (text === undefined) return undefined
  let value: { accessKeyId?: unknown; accessKeySecret?: unknown } | null
  try {
    value = JSON.parse(text) as typeof value
  } catch {
    value = null
  }
  const { accessKeyId, accessKeySecret } = value ?? {}
  if (typeof accessKeyId !== 'string' || typeof accessKeySecret !== 'string') {
    throw usageFailure(`${path} takes {"accessKeyId": "…", "accessKeySecret": "…"}.`)
  }
  return { keyId: accessKeyId, secret: accessKeySecret }
}

function readKeyFile(path: string): Key {
  const key = findKeyFile(path)
  if (key === undefined) throw usageFailure(`There is no key file ${path}. Give the path of one.`)
  return key
}

function findEnvironmentKey(environment: Environment): Key | undefined {
  const { CALOTYPE_ACCESS_KEY_ID: keyId, CALOTYPE_ACCESS_KEY_SECRET: secret } = environment
  return keyId && secret ? { keyId, secret } : undefined
}

/**
 * The key of the server over `data`: in its file, else the one of the environment, because a server that got its first
 * key there writes none. Throws CommandFailure.
 */
export function readServerKey(data: string, environment: Environment): Key & { readonly source: string } {
  const path = join(data, 'access-key.json')
  const inFile = findKeyFile(path)
  if (inFile !== undefined) return { ...inFile, source: path }
  const given = findEnvironmentKey(environment)
  if (given !== undefined)
    return { ...given, source: 'CALOTYPE_ACCESS_KEY_ID and CALOTYPE_ACCESS_KEY_SECRET' }
  throw usageFailure(
    `There is no key file ${path}. The server writes one at its first start, unless the environment gave it a key: ` +
      'then set CALOTYPE_ACCESS_KEY_ID and CALOTYPE_ACCESS_KEY_SECRET here too.',
  )
}

function findKey(flags: ConnectionFlags, environment: Environment): Key {
  if (flags.keyFile !== undefined) return readKeyFile(flags.keyFile)
  if (flags.data !== undefined) return readServerKey(flags.data, environment)
  const given = findEnvironmentKey(environment)
  if (given !== undefined) return given
  if (environment.CALOTYPE_KEY_FILE) return readKeyFile(environment.CALOTYPE_KEY_FILE)
  if (environment.CALOTYPE_DATA) return readServerKey(environment.CALOTYPE_DATA, environment)
  throw usageFailure(
    'No access key. Set CALOTYPE_ACCESS_KEY_ID and CALOTYPE_ACCESS_KEY_SECRET, or give --key-file FILE or the ' +
      "server's --data DIRECTORY.",
  )
}

/**
 * Where the server is and who asks it. What is nearer to the command wins: flags, then the environment, then the
 * files of the server's data directory, then the default endpoint. Throws CommandFailure.
 */
export function resolveConnection(flags: ConnectionFlags, environment: Environment): Connection {
  const endpoint = findEndpoint(flags, environment)
  const { keyId, secret } = findKey(flags, environment)
  return { endpoint, keyId, secret }
}
