import type { Draft } from './draft.ts'
import type { LinuxSystem } from './linux.ts'

/** Where installers put them; a system may swap to them without a line in fstab. */
const USUAL = ['/swapfile', '/swap.img', '/swap', '/swap/swapfile', '/var/swap', '/var/swapfile']
/** The mark ends the first page, and pages differ between processors. */
const PAGE_BYTES = [4096, 8192, 16_384, 32_768, 65_536]
const MARKS = ['SWAPSPACE2', 'SWAP-SPACE']
const HIBERNATED_MARKS = ['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001']

/** Swap files keep their first page, which says that they are ones; the rest is what was in memory. */
export async function planSwapFiles({ tree, fstab }: LinuxSystem, draft: Draft): Promise<void> {
  const named = fstab.filter(({ type }) => type === 'swap').map(({ source }) => source)
  for (const name of [...named, ...USUAL]) {
    if (!name.startsWith('/') || name.startsWith('/dev/')) continue
    const place = await tree.resolve(name)
    if (place?.facts.kind !== 'file') continue
    const { volume, path } = place
    const head = (await volume.files.read(path, PAGE_BYTES.at(-1) ?? 0)) ?? Buffer.alloc(0)
    const mark = findMark(head)
    if (mark === 'hibernated') {
      draft.refuse(
        volume,
        'Linux is hibernated in a swap file. Start it and shut it down in full, then try again; or choose best effort, or leave swap out.',
      )
    } else if (mark !== undefined) {
      await draft.claim({
        operation: 'swap',
        volume,
        shown: tree.shown(place.guest),
        how: 'blanked',
        edits: [{ volume, edit: { is: 'blank', path, keepBytes: mark } }],
      })
    } else if (named.includes(name)) {
      draft.keep(volume, tree.shown(place.guest), 'fstab calls it swap, but it is none')
    }
  }
}

/** The size of its page, if this is the start of a swap file. */
function findMark(head: Buffer): number | 'hibernated' | undefined {
  for (const pageBytes of PAGE_BYTES) {
    const mark = head.toString('latin1', pageBytes - 10, pageBytes)
    if (MARKS.includes(mark)) return pageBytes
    if (HIBERNATED_MARKS.some((one) => mark.startsWith(one))) return 'hibernated'
  }
  return undefined
}
