import type { Medium, Scrubbed } from './contract.ts'
import { damaged, refuse } from './refuse.ts'
import { findSwapHeader, SWAP_BAD_PAGES_OFFSET } from './swap-header.ts'
import { Tally, wipe } from './wipe.ts'

const HEADER_BYTES_MAX = 65536
/** Version, last page, count of bad pages, uuid and label lie from 1024 on in so many bytes. */
const FIELDS_BYTES = 44
const SIGNATURE_BYTES = 10

/**
 * Makes Linux swap zero but for what makes it swap: the version, the sizes, the uuid, the label, the list of bad pages and
 * the signature. Throws refusals 'hibernated', 'unsupported' and 'damaged'.
 */
export async function scrubSwap(medium: Medium): Promise<Scrubbed> {
  const first = await medium.read(0, Math.min(HEADER_BYTES_MAX, medium.sizeBytes))
  const header = findSwapHeader((offset, lengthBytes) =>
    offset + lengthBytes <= first.length ? first.subarray(offset, offset + lengthBytes) : undefined,
  )
  if (header === undefined) throw damaged('the swap space has no signature')
  const { pageBytes, badPageCount } = header
  if (header.state === 'hibernated') {
    throw refuse(
      'hibernated',
      'A hibernated system lies in a swap space. Start the machine, shut it down, then try again.',
    )
  }
  if (header.state === 'old') {
    throw refuse(
      'unsupported',
      'A swap space has a form that is not cleaned. Make it anew with mkswap inside the machine, then try again.',
    )
  }
  const signatureAt = pageBytes - SIGNATURE_BYTES
  const listEnd = SWAP_BAD_PAGES_OFFSET + badPageCount * 4
  if (listEnd > signatureAt) throw damaged('a swap space lists more bad pages than fit')
  const tally = new Tally()
  tally.add(
    'swap',
    await wipe(medium, [
      { offset: 0, lengthBytes: 1024 },
      { offset: 1024 + FIELDS_BYTES, lengthBytes: SWAP_BAD_PAGES_OFFSET - 1024 - FIELDS_BYTES },
      { offset: listEnd, lengthBytes: signatureAt - listEnd },
      { offset: pageBytes, lengthBytes: medium.sizeBytes - pageBytes },
    ]),
  )
  return tally.scrubbed
}
