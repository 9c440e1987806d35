import { setTimeout as sleep } from 'node:timers/promises'
import { type Fault, isFault } from '../../image/fault.ts'
import { QMP_REFUSED, type Qmp } from './qmp.ts'

const REFUSED_TRIES = 250
const REFUSED_POLL_MS = 20

/** The block exports that are open and not on their way out. */
export async function exportIds(qmp: Qmp): Promise<Set<string>> {
  const open = (await qmp.execute('query-block-exports')) as { id: string; 'shutting-down': boolean }[]
  return new Set(open.filter((one) => !one['shutting-down']).map((one) => one.id))
}

export async function nodeNames(qmp: Qmp): Promise<Set<string>> {
  const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as { 'node-name': string }[]
  return new Set(nodes.map((node) => node['node-name']))
}

export async function removeNode(qmp: Qmp, name: string): Promise<void> {
  await untilTaken(() => qmp.execute('blockdev-del', { 'node-name': name }))
}

/**
 * Tries again what QEMU refuses: a node or bitmap stays in use for a moment after the export above it was told to go,
 * until its last request has ended.
 */
export async function untilTaken(work: () => Promise<unknown>): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await work()
      return
    } catch (error) {
      if (!isRefusal(error) || tries >= REFUSED_TRIES) throw error
      await sleep(REFUSED_POLL_MS)
    }
  }
}

export async function unlessRefused(answer: Promise<unknown>): Promise<void> {
  await answer.catch((error: unknown) => {
    if (!isRefusal(error)) throw error
  })
}

function isRefusal(error: unknown): error is Fault {
  return isFault(error) && error.reason === QMP_REFUSED
}
