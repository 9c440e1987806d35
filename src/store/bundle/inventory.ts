import assert from 'node:assert/strict'
import { Fault } from '../../image/fault.ts'
import { type PageId, parseHash, type RegionId } from '../../image/ids.ts'
import { encodeCanonical } from '../canonical.ts'
import { isPublicKey } from './keys.ts'

/** What an installation tells of itself, so that a bundle can be made for it. Source: docs/format.md, "Bundle". */
export interface Inventory {
  /** Hex of the X25519 key that bundles for it are made for. */
  readonly recipient: string
  /** The region that holds the pages: a bundle that was made with it can be taken in there. For people. */
  readonly region: RegionId
  /** Map pages that the region holds, with all their chunks. */
  readonly pages: readonly PageId[]
}

export const INVENTORY_BYTES_MAX = 1024 * 1024
/** 6.5 TiB of maps: what is beyond is carried although it is there. In JSON it fits into a request as all others have it. */
const PAGES_MAX = 13_000
const REGION_CHARS_MAX = 64

/** Canonical JSON and a line's end. Of more pages than an inventory may name, the first ones are named. */
export function encodeInventory({ recipient, region, pages }: Inventory): string {
  assert(isPublicKey(recipient) && region.length <= REGION_CHARS_MAX)
  const told = [...new Set(pages)].slice(0, PAGES_MAX)
  const text = `${encodeCanonical({ pages: told, recipient, region, version: 1 }).toString('utf8')}\n`
  assert(text.length <= INVENTORY_BYTES_MAX)
  return text
}

/** Throws Fault 'invalid' for any other text. Space around and inside does not matter: it may have come by mail. */
export function parseInventory(text: string): Inventory {
  try {
    assert(text.length <= INVENTORY_BYTES_MAX)
    const { pages, recipient, region, version, ...rest } = JSON.parse(text)
    assert(version === 1 && Object.keys(rest).length === 0)
    assert(typeof recipient === 'string' && isPublicKey(recipient))
    assert(typeof region === 'string' && /^[a-z0-9-]{1,64}$/.test(region))
    assert(Array.isArray(pages) && pages.length <= PAGES_MAX)
    const known = pages.map((page) => {
      assert(typeof page === 'string')
      return parseHash('page', page)
    })
    return { recipient, region: region as RegionId, pages: known }
  } catch (cause) {
    throw new Fault(
      'invalid',
      'This is no inventory of an installation, or not all of one. Have it made anew at the other end.',
      { reason: 'inventory', field: 'inventory', cause },
    )
  }
}
