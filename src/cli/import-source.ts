import { readFileSync, statSync } from 'node:fs'
import { usageFailure } from './failure.ts'

/** Where the file of an import is. */
export type ImportSource =
  | { readonly is: 'local'; readonly path: string }
  | { readonly is: 'pipe' }
  | { readonly is: 'url'; readonly url: string }
  | { readonly is: 'server'; readonly fileName: string }

/**
 * What the argument means: an address, '-', a path of this computer (it has a slash, or a file here has the name), else a
 * file of the server. Throws CommandFailure.
 */
export function chooseSource(file: string | undefined, serverFile: string | undefined): ImportSource {
  if (serverFile !== undefined) {
    if (file !== undefined) throw usageFailure('Name FILE or --server-file, not both.')
    return { is: 'server', fileName: serverFile }
  }
  if (file === undefined || file === '') {
    throw usageFailure("Name the file: a path, an address, '-', or a file of the server with --server-file.")
  }
  if (file === '-') return { is: 'pipe' }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(file)?.[1]?.toLowerCase()
  if (scheme !== undefined) {
    if (['http', 'https', 's3'].includes(scheme)) return { is: 'url', url: file }
    throw usageFailure('An address begins with https://, http:// or s3://.')
  }
  if (file.includes('/') || isFile(file)) return { is: 'local', path: file }
  return { is: 'server', fileName: file }
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile()
  } catch {
    // Too long for a name here, say: then it is the server's to judge.
    return false
  }
}

export interface S3Flags {
  readonly s3Endpoint?: string
  readonly s3Region?: string
  readonly s3KeyId?: string
  readonly s3SecretFile?: string
}

/** The body's `s3`; undefined where nothing is said of it. Throws CommandFailure for half of it, and for other sources. */
export function readS3(flags: S3Flags, source: ImportSource): object | undefined {
  const { s3Endpoint: endpoint, s3Region: region, s3KeyId: keyId, s3SecretFile } = flags
  if ([endpoint, region, keyId, s3SecretFile].every((one) => one === undefined)) return undefined
  if (source.is !== 'url' || !/^s3:/i.test(source.url)) throw usageFailure('--s3-… is for s3://BUCKET/KEY.')
  if (keyId === undefined || s3SecretFile === undefined) {
    throw usageFailure('s3:// with --s3-… takes both --s3-key-id and --s3-secret-file.')
  }
  return { endpoint, region, keyId, secret: readSecret(s3SecretFile) }
}

function readSecret(path: string): string {
  let secret: string
  try {
    secret = readFileSync(path, 'utf8').trim()
  } catch (error) {
    throw usageFailure(
      `Cannot read ${path} (${(error as NodeJS.ErrnoException).code}). Check who may read it.`,
    )
  }
  if (/^\S{1,1024}$/.test(secret)) return secret
  throw usageFailure(`${path} holds no secret of an S3 key: one word is expected, on one line.`)
}
