export type AskedRange =
  | { readonly first: number; readonly last: number | undefined }
  | { readonly suffixBytes: number }

/** Beyond what a number holds nothing can lie: such a position is behind every end. */
const position = (digits: string) => Math.min(Number(digits), Number.MAX_SAFE_INTEGER)

/**
 * The one range that a request asks for; undefined where it asks for all, for several ranges, in another unit, or for
 * what is none: such a header is passed over, and the whole is answered. Source: RFC 9110, 14.2.
 */
export function parseRange(header: string | undefined): AskedRange | undefined {
  const match = /^bytes=\s*(\d{0,40})-(\d{0,40})\s*$/i.exec(header ?? '')
  const [, from = '', to = ''] = match ?? []
  if (from === '') return to === '' ? undefined : { suffixBytes: position(to) }
  const first = position(from)
  if (to === '') return { first, last: undefined }
  const last = position(to)
  return last < first ? undefined : { first, last }
}

/** True if `etag` (quoted, strong) is among those of an If-Match or If-None-Match. Weak ones count where `isWeak`. */
export function namesEtag(header: string, etag: string, isWeak: boolean): boolean {
  if (header.trim() === '*') return true
  const tags = header.match(/(?:W\/)?"[^"]*"/g) ?? []
  return tags.some((tag) => (isWeak ? tag.replace(/^W\//, '') : tag) === etag)
}

/** True where `Want-Content-Digest` asks for SHA-256. Source: RFC 9530, 4. */
export function wantsSha256(header: string | undefined): boolean {
  const match = /(?:^|,)\s*sha-256\s*=\s*(\d{1,2})\s*(?:$|[,;])/i.exec(header ?? '')
  return match !== null && Number(match[1]) > 0
}
