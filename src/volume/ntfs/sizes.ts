import { readReference, writeSize } from './bytes.ts'
import { withFixup } from './fixup.ts'
import { findIndex, type IndexEntry, type Node, walkIndex } from './index.ts'
import { ATTRIBUTE, type Ntfs, type NtfsFile } from './model.ts'
import { FILE_NAME_SIZES_OFFSET, parseFileName } from './names.ts'

/** Writes size zero next to each name of a file: in its own record, which the caller writes, and in its directories. */
export async function emptySizes(ntfs: Ntfs, file: NtfsFile): Promise<void> {
  const { number } = file.record
  const parents = new Set<number>()
  for (const { type, value } of file.attributes) {
    if (type !== ATTRIBUTE.fileName || value === undefined) continue
    parents.add(parseFileName(value, number).parent.record)
    setSizes(value)
  }
  for (const parent of parents) {
    const directory = await ntfs.readFile(parent)
    const index = findIndex(directory, '$I30', ntfs)
    if (index === undefined) continue
    const changed: Node[] = []
    await walkIndex(ntfs, index, (entry: IndexEntry, node: Node) => {
      if (readReference(entry.bytes, 0).record !== number) return
      setSizes(entry.key)
      changed.push(node)
    })
    for (const { block, node } of new Set(changed)) {
      if (block !== undefined && index.allocation !== undefined) {
        await ntfs.writeAttribute(index.allocation, block * index.blockBytes, withFixup(node))
      } else {
        // The root is a view into these.
        for (const record of [directory.record, ...directory.extensions]) await ntfs.writeRecord(record)
      }
    }
  }
}

function setSizes(name: Buffer): void {
  writeSize(name, 0, FILE_NAME_SIZES_OFFSET)
  writeSize(name, 0, FILE_NAME_SIZES_OFFSET + 8)
}
