import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { Host } from '../host/contract.ts'
import { Fault } from '../image/fault.ts'
import type { DiskId, MachineId } from '../image/ids.ts'
import { digestOf, newTaskPlace, type TaskPlace } from './fixture.ts'
import type { PlanInput } from './plan-capture.ts'

describe('the plan of a capture', () => {
  let place: TaskPlace
  let machineId: MachineId
  let host: { -readonly [Call in keyof Host]: Host[Call] }
  let calls: string[]
  beforeEach(async () => {
    place = await newTaskPlace()
    await place.image('base')
    machineId = await place.machine('m', { digest: digestOf('base') })
    host = place.parts.host as typeof host
    calls = []
    const { outlook, openExports } = host
    host.outlook = (...of) => {
      calls.push('outlook')
      return outlook(...of)
    }
    host.openExports = (...of) => {
      calls.push('open')
      return openExports(...of)
    }
    host.closeExports = async (_id, _key, outcome) => void calls.push(outcome)
  })
  afterEach(() => place.close())

  const plan = async (more: Partial<PlanInput> = {}) => {
    const diskIds = [`d${machineId.slice(1)}` as DiskId]
    const input: PlanInput = { machineId, diskIds, wanted: 'best', blockers: [], tellsSpace: true, ...more }
    return place.ended(await place.begin({ kind: 'plan-capture', machineId, input }))
  }

  test('looks, tells, and gives up', async () => {
    const { state, output } = await plan()
    assert.equal(state, 'done')
    assert.deepEqual(calls, ['outlook', 'open', 'given-up'])
    assert.deepEqual([output.readBytes, output.dataBytes, output.newBytes], [8192, 8192, 8192])
    assert.deepEqual([output.blockers, output.consistency], [[], 'application'])
  })

  test('of a machine that cannot be captured asks no host, and makes no figures up', async () => {
    const { state, output } = await plan({ blockers: ['The machine is failed.'] })
    assert.deepEqual([state, calls], ['done', ['given-up']])
    assert.deepEqual([output.readBytes, output.dataBytes, output.newBytes], [null, null, null])
    assert.deepEqual(output.blockers, ['The machine is failed.'])
  })

  test('names what stands in the way: consistency, quota, a host that refuses', async () => {
    await place.catalog.rows
      .updateTable('project')
      .set({ quotaBytes: 9_000, chargedAtQuotaBytes: 0 })
      .execute()
    host.outlook = async () => ({ power: 'running', consistency: 'crash', consistencyWhy: 'No agent.' })
    const { output } = await plan({ wanted: 'filesystem' })
    const blockers = output.blockers as string[]
    assert.equal(blockers.length, 2)
    assert.match(blockers.join(' '), /filesystem.*No agent.*quota of 9000/)
    host.openExports = async () => {
      throw new Fault('conflict', 'It is being captured.', { subject: 'machine' })
    }
    assert.match(String((await plan()).output.blockers), /It is being captured/)
  })

  test('tells the room of a region to those alone who may know what others store', async () => {
    const jobs = place.parts.jobs as { -readonly [Call in keyof typeof place.parts.jobs]: unknown }
    jobs.freeBytes = async () => 4096
    const told = await plan()
    assert.equal(told.output.freeBytes, 4096)
    assert.match(String(told.output.blockers), /4096 are free/)
    const untold = await plan({ tellsSpace: false })
    assert.equal(untold.output.freeBytes, null)
    assert.doesNotMatch(String(untold.output.blockers), /4096/)
    assert.match(String(untold.output.blockers), /may not have room/)
  })

  test('begins again when what the disks are compared with goes away', async () => {
    const openExports = host.openExports
    host.openExports = async (...of) => {
      const exports = await openExports(...of)
      const own = { name: 'qemu:allocation-depth', most: 1 }
      return { ...exports, disks: exports.disks.map((disk) => ({ ...disk, own })) }
    }
    const jobs = place.parts.jobs as { -readonly [Call in keyof typeof place.parts.jobs]: unknown }
    const planned = place.parts.jobs.plan
    const seen: boolean[] = []
    jobs.plan = async (job: Parameters<typeof planned>[0], ...rest: never[]) => {
      const isCompared = job.disks.some(({ baseline }) => baseline !== undefined)
      seen.push(isCompared)
      if (isCompared) throw new Fault('absent', 'It is gone.', { subject: 'image' })
      return planned(job, ...(rest as unknown as [never, never]))
    }
    const { state, output } = await plan()
    assert.deepEqual([state, seen], ['done', [true, false]])
    assert.equal((output.disks as { way: string }[])[0]?.way, 'all')
  })
})
