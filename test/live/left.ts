import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ensureRunDirectory } from '../../src/data-directory.ts'
import { AgentTalk } from '../../src/host/qemu/agent-talk.ts'
import { Qmp } from '../../src/host/qemu/qmp.ts'
import { findId } from '../../src/image/ids.ts'
import { leftOfCaptures, until } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'

interface BlockNode {
  readonly 'node-name': string
  readonly 'dirty-bitmaps'?: readonly {
    readonly name?: string
    readonly recording: boolean
    readonly busy: boolean
    readonly inconsistent?: boolean
  }[]
}

/** A guest's own nodes, as it was started with them, and those that QEMU names itself. */
const OWN_NODE = /^(d\d+(-base)?|#block\d+)$/
const AGENT_MS = 30_000

const socketOf = async (place: Place, machineId: string, end: string) =>
  join(await ensureRunDirectory(place.data), `${findId('machine', machineId)}${end}`)

/**
 * Nothing of a capture is on a running machine, beside it, or running, but one bitmap that records on each of
 * `baselines` disks: what the next capture needs.
 */
export async function assertNothingOnMachine(place: Place, machineId: string): Promise<void> {
  await until('no guard', async () => ((await guardsOf(place)).length === 0 ? true : undefined))
  assert.deepEqual(await leftOfCaptures(place), [])
  const qmp = await Qmp.open(await socketOf(place, machineId, '.q'))
  try {
    assert.deepEqual(await qmp.execute('query-block-exports'), [], 'no export is left')
    const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as BlockNode[]
    const strange = nodes.map((node) => node['node-name']).filter((name) => !OWN_NODE.test(name))
    assert.deepEqual(strange, [], 'no node is left')
    for (const { 'node-name': name, 'dirty-bitmaps': bitmaps = [] } of nodes) {
      const told = `bitmaps of ${name}: ${JSON.stringify(bitmaps)}`
      assert(bitmaps.length <= 1, told)
      for (const bitmap of bitmaps) assert(bitmap.recording && !bitmap.busy && !bitmap.inconsistent, told)
    }
    const { status } = (await qmp.execute('query-status')) as { status: string }
    assert.equal(status, 'running')
  } finally {
    qmp.close()
  }
}

/** By the agent's own word. */
export async function assertThawed(place: Place, machineId: string): Promise<void> {
  const talk = await AgentTalk.open(await socketOf(place, machineId, '.a'))
  try {
    await talk.sync(AGENT_MS)
    assert.equal(await talk.execute('guest-fsfreeze-status', AGENT_MS), 'thawed')
  } finally {
    talk.close()
  }
}

/** The processes that freeze guests of this place, or hold them frozen. */
export async function guardsOf(place: Place): Promise<string[]> {
  const runDirectory = await ensureRunDirectory(place.data)
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes('freeze-guard') && command.includes(runDirectory)) found.push(pid)
  }
  return found
}
