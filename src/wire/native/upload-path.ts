import { splitUrl } from '../acs3.ts'
import type { WireHead } from '../gateway-contract.ts'

/** 16 TiB: more than any disk that a region takes, and far below where numbers lose their last digits. */
export const UPLOAD_BYTES_MAX = 2 ** 44

// What a token may look like. An upload's id has 17 characters, so that neither is ever taken for the other.
const TOKEN = /^[A-Za-z0-9_-]{32,128}$/
export const UPLOAD_ID = /^[0-9A-Za-z]{17}$/

/** A path that is a right in itself, asked for without a signature. `token` is '' where nothing can be behind it. */
export interface TokenPath {
  readonly of: 'upload' | 'download'
  readonly token: string
}

export function uploadPath(token: string): string {
  return `/v1/uploads/${token}`
}

/**
 * `/v1/uploads/TOKEN` and `/v1/downloads/TOKEN/FILENAME`, or undefined for a path that has to be signed. The file name is
 * there for the tools that save under it: it opens nothing and chooses nothing.
 */
export function findTokenPath(url: string): TokenPath | undefined {
  const segments = splitUrl(url).path.split('/')
  const [before, version, noun, token = '', fileName] = segments
  if (before !== '' || version !== 'v1') return undefined
  if (noun === 'uploads' && segments.length === 4 && token !== '' && !UPLOAD_ID.test(token))
    return { of: 'upload', token: TOKEN.test(token) ? token : '' }
  if (noun !== 'downloads') return undefined
  const isWhole = segments.length === 5 && fileName !== '' && TOKEN.test(token)
  return { of: 'download', token: isWhole ? token : '' }
}

/** The method that is meant: some clients can send nothing but POST. Source: tus 1.0.0, "X-HTTP-Method-Override". */
export function meantMethod({ method, headers }: Pick<WireHead, 'method' | 'headers'>): string {
  const meant = headers['x-http-method-override']
  const isOne = method === 'POST' && (meant === 'PATCH' || meant === 'DELETE' || meant === 'HEAD')
  return isOne ? meant : method
}
