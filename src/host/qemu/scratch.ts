import { rm, statfs, truncate } from 'node:fs/promises'
import { Fault } from '../../image/fault.ts'
import { fileFault, MAKE_ROOM } from '../tools/durable.ts'
import { createOverlay } from '../tools/folders.ts'
import type { BlockNode } from '../tools/graph.ts'

const CLUSTER_BYTES = 256 * 1024
/** An empty file of ours, and tables for a little content. */
const SCRATCH_BYTES_MIN = 4 * 1024 ** 2

/** Bytes that the file system of a folder has room for. */
export type FreeBytes = (folder: string) => Promise<number>

export async function fileSystemFreeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

/**
 * How large the scratch file of each disk may grow: as large as the disk and its tables where there is room for all,
 * and together never more than half of what is free, so that a guest's own files do not run out of room because of us.
 * Throws Fault 'full' where that is too little for anything. `freeBytes` may be below zero: promised more than once.
 */
export function scratchBounds(diskBytes: readonly number[], freeBytes: number): number[] {
  const needs = diskBytes.map((bytes) => roundUp(bytes + bytes / 1024) + SCRATCH_BYTES_MIN)
  const total = needs.reduce((sum, need) => sum + need, 0)
  const share = Math.min(1, Math.max(0, freeBytes) / 2 / total)
  return needs.map((need) => {
    const bound = roundDown(need * share)
    if (bound < SCRATCH_BYTES_MIN)
      throw new Fault('full', `Capturing the running machine failed: ${MAKE_ROOM}`, { subject: 'host' })
    return bound
  })
}

/** Makes an empty scratch file for a disk, and answers the node that opens it and cannot grow beyond `boundBytes`. */
export async function makeScratch(
  path: string,
  diskBytes: number,
  boundBytes: number,
  signal: AbortSignal,
): Promise<BlockNode> {
  await rm(path, { force: true })
  await createOverlay(path, diskBytes, signal)
  try {
    // It takes no room yet; a node of fixed size must not be larger than its file.
    await truncate(path, boundBytes)
  } catch (error) {
    throw fileFault(error, 'Making a scratch file')
  }
  return {
    driver: 'qcow2',
    file: { driver: 'raw', size: boundBytes, file: { driver: 'file', filename: path } },
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / CLUSTER_BYTES) * CLUSTER_BYTES
}

function roundDown(bytes: number): number {
  return Math.floor(bytes / CLUSTER_BYTES) * CLUSTER_BYTES
}
