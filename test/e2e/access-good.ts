import assert from 'node:assert/strict'
import type { KeyPair } from '../../demo/clients.ts'
import { idle } from './harness.ts'
import { type Office, slowCopies } from './office.ts'
import { liveCopies, personOf, type SmallPlace, taskEnd, untilState } from './small-place.ts'
import { HOME, nativeCalls, newName, type Things, uhostCalls, wuyingCalls } from './valid-calls.ts'
import { signedNative } from './wire.ts'

/** What the office has for the calls. */
interface Given {
  readonly base: string
  /** A machine that no call stops. */
  readonly keeper: string
  /** The name of a user. */
  readonly someone: string
  /** A machine that runs, each once. */
  readonly take: () => string
  readonly still: Pick<Things, 'project' | 'otherProject' | 'base' | 'image' | 'copy' | 'cleaned'>
}

/** Every operation of every door, asked for well by a user who has every right. */
export async function everyCallIsGood(office: Office, given: Given): Promise<void> {
  const { place, root } = office
  const { base, keeper, someone, take, still } = given
  const { name, key, clerk } = await office.newUser()
  await office.attach(name, 'AdministratorAccess')
  const stopped = [take(), take(), take(), take()]
  for (const id of stopped) {
    const path = `/v1/machines/${id}/stop`
    await root.native('POST /v1/machines/:id/stop', { path, query: { region: HOME } }, 'done')
  }
  for (const id of stopped) await untilState(personOf(place), id, 'stopped')
  const snapshots: string[] = []
  for (let count = 0; count < 6; count++) {
    const wish = {
      RegionId: HOME,
      DesktopId: take(),
      SnapshotName: newName('kept'),
      SourceDiskType: 'SYSTEM',
    }
    const { json } = await root.wuying('CreateSnapshot', wish, 'done')
    snapshots.push(String(json.SnapshotId))
  }
  await idle(place.server)
  const policy = {
    region: HOME,
    name: newName('nightly'),
    cron: '0 3 * * *',
    keepCount: 3,
    machineIds: [keeper],
    isEnabled: false,
  }
  const planned = await root.native(
    'POST /v1/snapshot-policies',
    { path: '/v1/snapshot-policies', body: policy },
    'done',
  )
  const policyId = String(planned.json.policyId)
  const sending = { region: HOME, name: newName('sent'), lengthBytes: 4096 }
  const sent = await root.native('POST /v1/uploads', { path: '/v1/uploads', body: sending }, 'done')
  const uploadId = String(sent.json.uploadId)
  const idOf = async (route: string) => {
    const { json } = await root.native(route, nativeCalls[route]?.(still as Things) ?? { path: '' }, 'done')
    return String(json.id)
  }
  const webhook = await idOf('POST /v1/webhooks')
  const rule = await idOf('POST /v1/replication-rules')
  const spare = [await office.capture(take()), await office.capture(take()), await office.capture(take())]
  // A disk as large as this is read for longer than any test waits: its task is under way until it is cancelled.
  const body = { region: HOME, imageId: base, name: 'endless', systemDiskBytes: 1024 ** 4 }
  const big = await root.native('POST /v1/machines', { path: '/v1/machines', body }, 'done')
  const [endless = ''] = big.json.machineIds as string[]
  await untilState(personOf(place), endless, 'running')
  const capture = { region: HOME, machineId: endless, name: 'never' }
  const begun = await root.native(
    'POST /v1/images/capture',
    { path: '/v1/images/capture', body: capture },
    'done',
  )
  const [copying, underWay, cancelled] = await slowCopies(office, 3)
  await root.native('DELETE /v1/tasks/:id', { path: `/v1/tasks/${cancelled.taskId}` }, 'done')
  await taskEnd(personOf(place), cancelled.taskId)
  const things: Things = {
    ...still,
    copying: () => copying.imageId,
    copyTask: () => underWay.taskId,
    cancelledCopy: () => cancelled.taskId,
    running: take,
    stopped: () => stopped.pop() ?? '',
    snapshot: () => snapshots.pop() ?? '',
    policy: () => policyId,
    upload: () => uploadId,
    task: () => String(begun.json.taskId),
    webhook: () => webhook,
    rule: () => rule,
    user: () => someone,
  }
  const doomed = { ...things, image: () => spare.pop() ?? '' }
  for (const [operation, call] of Object.entries(wuyingCalls)) {
    await clerk.wuying(operation, call(operation === 'DeleteImages' ? doomed : things), 'done')
  }
  for (const [operation, call] of Object.entries(uhostCalls)) {
    await clerk.uhost(operation, call(operation === 'TerminateCustomImage' ? doomed : things), 'done')
  }
  for (const [route, call] of Object.entries(nativeCalls)) {
    // Those that only look share one machine.
    const shown = /^GET|console/.test(route) ? { ...things, running: () => keeper } : things
    if (route === 'GET /v1/events/stream') {
      await follows(place, key)
      continue
    }
    await clerk.native(route, call(route === 'DELETE /v1/images/:id' ? doomed : shown), 'done')
  }
  // The one that goes slowly, and the one that was begun again.
  for (const taskId of await liveCopies(personOf(place)))
    await root.native('DELETE /v1/tasks/:id', { path: `/v1/tasks/${taskId}` }, 'done')
  await idle(place.server)
}

/** An answer that lasts until it is let go of, so it is looked at by its head. */
async function follows(place: SmallPlace, key: KeyPair): Promise<void> {
  const { endpoint } = place.server
  const { url, headers } = signedNative(endpoint, key, 'GET', '/v1/events/stream')
  const leave = new AbortController()
  const { host: _host, ...rest } = headers
  const answer = await fetch(new URL(url, endpoint), { headers: rest, signal: leave.signal })
  leave.abort()
  assert.equal(answer.status, 200)
  assert.match(answer.headers.get('content-type') ?? '', /^text\/event-stream/)
}
