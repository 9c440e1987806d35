import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { at, isLeftOut, type LinuxDisk, linuxTree } from '../disks/linux.ts'
import { run } from '../disks/programs.ts'
import { assertGone } from '../disks/search.ts'
import type { Tokens } from '../disks/tokens.ts'
import { treeChanges } from '../disks/tree.ts'

/** What a cleaning may add or rewrite, so that the machine gets an identity of its own when it starts. */
const FRESH = /^[-+] (etc\/machine-id|etc\/systemd|var\/(log|lib\/(dbus|cloud))|swap\.img)(\/|: )/

/**
 * A cleaned Linux disk: nothing of what had to go is anywhere in it, everything else is as it was, owners and modes
 * included, and e2fsck finds nothing to mend.
 */
export async function assertCleanLinux(path: string, disk: LinuxDisk, tokens: Tokens): Promise<void> {
  await assertGone(path, tokens, 'the cleaned disk')
  const volume = at(path, disk.offset)
  const header = await run('dumpe2fs', ['-h', volume])
  assert.doesNotMatch(header, /needs_recovery/)
  await run('e2fsck', ['-fn', volume])
  await assertFreeIsZero(path, disk.offset)
  await assertKept(path, disk)
  if (disk.swap !== undefined) await assertSwap(path, disk.swap)
}

/** By the block bitmaps as dumpe2fs tells them, whatever was planted. */
async function assertFreeIsZero(path: string, offset: number): Promise<void> {
  const said = await run('dumpe2fs', [at(path, offset)])
  const blockBytes = Number(/^Block size:\s+(\d+)/m.exec(said)?.[1])
  const file = await open(path, 'r')
  const bad: number[] = []
  try {
    for (const [, list = ''] of said.matchAll(/^ {2}Free blocks: (.*)$/gm)) {
      for (const range of list.split(', ').filter((word) => word !== '')) {
        const [from = 0, to = from] = range.split('-').map(Number)
        const bytes = Buffer.alloc((to - from + 1) * blockBytes)
        await file.read(bytes, 0, bytes.length, offset + from * blockBytes)
        const zero = Buffer.alloc(blockBytes)
        for (let block = from; block <= to; block++) {
          const start = (block - from) * blockBytes
          if (!bytes.subarray(start, start + blockBytes).equals(zero)) bad.push(block)
        }
      }
    }
  } finally {
    await file.close()
  }
  assert.deepEqual(bad.slice(0, 10), [], `${bad.length} free blocks hold something`)
}

async function assertKept(path: string, { offset, content, kept }: LinuxDisk): Promise<void> {
  const all = await linuxTree(path, offset)
  const after = new Map([...all].filter(([one]) => !isLeftOut(content, one)))
  const changes = treeChanges(kept, after).filter((line) => !FRESH.test(line))
  assert.deepEqual(changes, [])
  const isIn = (one: string, top: string) => one.startsWith(`${top}/`)
  for (const top of content.removed)
    assert.deepEqual(
      [...all.keys()].filter((one) => one === top || isIn(one, top)),
      [],
      `${top} is still there`,
    )
  for (const top of content.emptied) {
    assert(all.has(top), `${top} has to stay`)
    assert.deepEqual(
      [...all.keys()].filter((one) => isIn(one, top)),
      [],
      `${top} is not empty`,
    )
  }
}

async function assertSwap(path: string, swap: { readonly offset: number; readonly sizeBytes: number }) {
  const file = await open(path, 'r')
  try {
    const bytes = Buffer.alloc(swap.sizeBytes)
    await file.read(bytes, 0, bytes.length, swap.offset)
    assert.equal(bytes.toString('latin1', 4086, 4096), 'SWAPSPACE2')
    assert(
      bytes.subarray(4096).every((byte) => byte === 0),
      'the swap partition holds something',
    )
  } finally {
    await file.close()
  }
}
