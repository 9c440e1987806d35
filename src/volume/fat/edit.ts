import assert from 'node:assert/strict'
import type { Edit, Path } from '../contract.ts'
import { type FatEntry, removedSlot, SLOT_BYTES } from './directory.ts'
import { namesOf } from './files.ts'
import { type FatDirectory, type FatTree, ROOT } from './tree.ts'

/** Carries one edit out; what is not there any more is done. The table of the tree is left to be flushed. */
export async function applyToFat(tree: FatTree, edit: Edit): Promise<void> {
  switch (edit.is) {
    case 'remove':
      return await remove(tree, edit.path)
    case 'empty':
      return await empty(tree, edit.path)
    case 'blank':
      return await blank(tree, edit.path, edit.keepBytes)
    case 'write':
    case 'link':
    case 'registry':
      assert.fail(`FAT volumes have no edit '${edit.is}'`)
      break
    default:
      edit satisfies never
  }
}

async function remove(tree: FatTree, path: Path): Promise<void> {
  assert(path.length > 0, 'the root of a volume stays')
  const found = await tree.find(path)
  if (found !== undefined) await removeEntries(tree, found.directory, [found.entry])
}

async function empty(tree: FatTree, path: Path): Promise<void> {
  const found = path.length === 0 ? undefined : await tree.find(path)
  if (path.length > 0 && found === undefined) return
  if (found?.entry.kind === 'file') return await emptyFile(tree, found.directory, found.entry)
  const directory = await tree.directory(found?.entry.firstCluster ?? ROOT)
  await removeEntries(tree, directory, namesOf(directory))
}

async function blank(tree: FatTree, path: Path, keepBytes: number): Promise<void> {
  const entry = (await tree.find(path))?.entry
  if (entry?.kind !== 'file') return
  for (const { offset, lengthBytes } of tree.runs(entry.firstCluster, keepBytes)) {
    await tree.medium.zero(offset, lengthBytes)
  }
}

async function emptyFile(
  tree: FatTree,
  directory: FatDirectory,
  { firstCluster, lastSlot }: FatEntry,
): Promise<void> {
  await tree.release(firstCluster)
  const slot = directory.bytes.subarray(lastSlot * SLOT_BYTES, (lastSlot + 1) * SLOT_BYTES)
  // The first cluster's high half is another field in FAT12 and FAT16, and stays.
  if (tree.geometry.bits === 32) slot.writeUInt16LE(0, 20)
  slot.writeUInt16LE(0, 26)
  slot.writeUInt32LE(0, 28)
  await tree.writeSlots(directory, lastSlot, lastSlot)
}

async function removeEntries(
  tree: FatTree,
  directory: FatDirectory,
  entries: readonly FatEntry[],
): Promise<void> {
  for (const entry of entries) {
    const chains = [entry.firstCluster]
    if (entry.kind === 'directory') {
      for await (const { entries: beneath } of tree.directories(entry.firstCluster)) {
        for (const one of beneath) {
          if (one.kind === 'file' || one.kind === 'directory') chains.push(one.firstCluster)
        }
      }
    }
    for (const firstCluster of chains) await tree.release(firstCluster)
    for (let slot = entry.firstSlot; slot <= entry.lastSlot; slot++) {
      directory.bytes.set(removedSlot(), slot * SLOT_BYTES)
    }
    await tree.writeSlots(directory, entry.firstSlot, entry.lastSlot)
  }
}
