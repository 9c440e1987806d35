import { dirname, join } from 'node:path'
import { findIsolation, type Isolation, prefixOf } from '../isolation/isolation.ts'
import type { ProcessLimits } from '../isolation/limits.ts'
import { anotherUser, LIMITS, NO_NEW_RIGHTS, noNetwork, ownUser, type Part } from '../isolation/parts.ts'

/** Of the rooms beneath `src`, those whose code an examiner runs. */
const ROOMS = ['image', 'disk', 'volume', 'guest', 'cleaning']
const TRIAL_SECONDS = 30

/** What to do where `isWorking` is false. */
export const NEEDS_NODE =
  "Start the service with its own command, `calotype`, which brings the Node whose permission model it needs, and let its user read the service's sources."

/** Node itself keeps an examiner from files, so that none of the parts is needed. */
const PARTS: readonly Part[] = [
  LIMITS,
  noNetwork('It takes root; without it, Node alone keeps it from the network.'),
  ownUser('It takes root and all numbers of users, and sources and Node that everybody may read.'),
  anotherUser('It takes root, and sources and Node that everybody may read.'),
  NO_NEW_RIGHTS,
]

/** What Node itself takes away, which every examiner has: without it none is started. */
export function nodeArguments(entryPath: string, heapMebibytes: number): string[] {
  const sources = dirname(import.meta.dirname)
  const readable = [join(dirname(sources), 'package.json'), ...ROOMS.map((room) => join(sources, room, '*'))]
  return [
    '--permission',
    ...[...readable, entryPath].map((path) => `--allow-fs-read=${path}`),
    '--disallow-code-generation-from-strings',
    `--max-old-space-size=${heapMebibytes}`,
    '--no-warnings',
    entryPath,
  ]
}

/** Tries what this host can do. `entryPath`: a program that ends by itself, and well, when nothing is asked of it. */
export async function findExaminerIsolation(entryPath: string): Promise<Isolation> {
  const isolation = await findIsolation({
    parts: PARTS,
    light: [process.execPath, '--version'],
    whole: [process.execPath, ...nodeArguments(entryPath, 128), 'probe'],
    limits: limitsOf(TRIAL_SECONDS),
  })
  const { isWorking } = isolation
  const node = { name: 'no files but its own', isThere: isWorking, detail: NEEDS_NODE }
  return { ...isolation, facts: [...isolation.facts, node] }
}

/** The words before an examiner, with the processor time that it may take, and a user that no other has. */
export function prefixWith(isolation: Isolation, processorSeconds: number): string[] {
  return prefixOf(isolation, { limits: limitsOf(processorSeconds) })
}

function limitsOf(cpuSeconds: number): ProcessLimits {
  return { cpuSeconds, openFileCount: 256, fileBytes: 0 }
}
