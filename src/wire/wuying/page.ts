import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { Page, Paging } from '../../app/contract.ts'
import { Fault } from '../../image/fault.ts'
import { optional } from './parameter.ts'
import { integer, text } from './rules.ts'

export const PAGE_SIZE_DEFAULT = 10
export const PAGE_SIZE_MAX = 100
const SCAN_STEP = 500
const OFFSET_BYTES = 6
const MAC_BYTES = 16

export const pagingParameters = {
  MaxResults: optional(integer(1, PAGE_SIZE_MAX), `page size, ${PAGE_SIZE_DEFAULT} when absent`),
  NextToken: optional(text(512), 'the page after the answer that carried it; with the same filters only'),
} as const

/** Binds a page token to what was asked and to who asked, so that it means nothing elsewhere. */
export interface TokenScope {
  readonly key: Uint8Array
  readonly action: string
  /** The filters, as parsed. */
  readonly filters: unknown
}

/** An opaque token for the item at `offset`. It needs no memory here and survives a restart. */
export function makeToken(scope: TokenScope, offset: number): string {
  const bytes = Buffer.alloc(OFFSET_BYTES)
  bytes.writeUIntBE(offset, 0, OFFSET_BYTES)
  return Buffer.concat([bytes, mac(scope, bytes)]).toString('base64url')
}

/** The offset in a token of `makeToken`. Throws Fault 'invalid' with field NextToken for any other text. */
export function parseToken(scope: TokenScope, token: string): number {
  const bytes = Buffer.from(token, 'base64url')
  const offset = bytes.subarray(0, OFFSET_BYTES)
  const isOurs =
    bytes.length === OFFSET_BYTES + MAC_BYTES &&
    bytes.toString('base64url') === token &&
    timingSafeEqual(bytes.subarray(OFFSET_BYTES), mac(scope, offset))
  if (!isOurs) {
    throw new Fault('invalid', 'Send the NextToken of the last answer unchanged, with the same filters.', {
      field: 'NextToken',
    })
  }
  return offset.readUIntBE(0, OFFSET_BYTES)
}

function mac(scope: TokenScope, offset: Uint8Array): Uint8Array {
  const filters = createHash('sha256').update(JSON.stringify(scope.filters)).digest()
  return createHmac('sha256', scope.key)
    .update(`${scope.action}\n`)
    .update(filters)
    .update(offset)
    .digest()
    .subarray(0, MAC_BYTES)
}

/** The key of a caller's page tokens, made from the secret that nobody but caller and server have. */
export function pageKeyOf(secret: string): Uint8Array {
  return createHmac('sha256', secret).update('wuying page token').digest()
}

/** Where a page begins and how long it is, from MaxResults and NextToken. */
export function pagingOf(
  scope: TokenScope,
  given: { readonly MaxResults?: number | undefined; readonly NextToken?: string | undefined },
): Paging {
  return {
    offset: given.NextToken === undefined ? 0 : parseToken(scope, given.NextToken),
    limit: given.MaxResults ?? PAGE_SIZE_DEFAULT,
  }
}

/** The token of the page after this one, or an empty text when this is the last. */
export function nextToken(scope: TokenScope, paging: Paging, total: number): string {
  const offset = paging.offset + paging.limit
  return offset < total ? makeToken(scope, offset) : ''
}

/**
 * One page of a list. With `matches` (filters that only this cloud's words know) the whole list is walked, and the
 * total counts what matched.
 */
export async function listPage<Item extends { readonly id: string }>(
  list: (paging: Paging) => Promise<Page<Item>>,
  paging: Paging,
  matches: ((item: Item) => boolean) | undefined,
): Promise<Page<Item>> {
  if (matches === undefined) return list(paging)
  // By id, because a list that grows at its head while it is walked shows some items twice.
  const found = new Map<string, Item>()
  for (let offset = 0; ; ) {
    const page = await list({ offset, limit: SCAN_STEP })
    for (const item of page.items) if (matches(item)) found.set(item.id, item)
    offset += page.items.length
    if (page.items.length === 0 || offset >= page.total) break
  }
  const items = [...found.values()]
  return { total: items.length, items: items.slice(paging.offset, paging.offset + paging.limit) }
}
