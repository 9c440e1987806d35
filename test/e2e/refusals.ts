import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import {
  good,
  importSmall,
  inventory,
  launch,
  newSmallPlace,
  type Person,
  personOf,
  type SmallPlace,
  taskEnd,
  until,
} from './small-place.ts'
import { HOME, type NativeCall, newName, type Things } from './valid-calls.ts'
import type { Answer, Flat } from './wire.ts'

/** A server with a base image, a machine that runs, a custom image and a snapshot of it, and another project. */
export interface Scene {
  readonly place: SmallPlace
  readonly root: Person
  /** The default project. */
  readonly own: string
  readonly base: string
  readonly image: string
  readonly running: string
  /** Of the system disk of `running`. */
  readonly snapshot: string
  readonly things: Things
  /** Throws unless everything there is is as it was when the scene was set. */
  unchanged(): Promise<void>
}

/** `prepare` makes more machines before the scene counts as set. */
export async function openScene<More>(
  t: TestContext,
  prepare: (root: Person, base: string) => Promise<More>,
): Promise<Scene & { readonly more: More }> {
  const place = await newSmallPlace(t)
  const root = personOf(place)
  const base = await importSmall(root, 'base', 'base')
  const [running = ''] = await launch(root, base)
  const { project } = await good<{ project: string }>(
    root.native('POST', '/v1/projects', { body: { name: 'Other' } }),
  )
  const { projects } = await good<{ projects: { id: string; isDefault: boolean }[] }>(
    root.native('GET', '/v1/projects'),
  )
  const own = projects.find((one) => one.isDefault)?.id ?? ''
  const taken = await good<{ imageId: string; taskId: string }>(
    root.native('POST', '/v1/images/capture', { body: { region: HOME, machineId: running, name: 'taken' } }),
  )
  await taskEnd(root, taken.taskId)
  const image = taken.imageId
  const snapshot = await takeSnapshot(root, running)
  const { policyId } = await good<{ policyId: string }>(
    root.native('POST', '/v1/snapshot-policies', {
      body: {
        region: HOME,
        name: newName('nightly'),
        cron: '0 3 * * *',
        keepCount: 3,
        machineIds: [running],
        isEnabled: false,
      },
    }),
  )
  const things: Things = {
    project: own,
    otherProject: project,
    base: () => base,
    image: () => image,
    copy: () => image,
    copying: () => image,
    copyTask: () => taken.taskId,
    cancelledCopy: () => taken.taskId,
    cleaned: () => image,
    running: () => running,
    stopped: () => running,
    snapshot: () => snapshot,
    policy: () => policyId,
    upload: () => '0'.repeat(17),
    task: () => taken.taskId,
    webhook: () => 'nothing',
    rule: () => 'nothing',
    user: () => 'root',
  }
  const more = await prepare(root, base)
  const before = await inventory(root)
  const unchanged = async () => assert.deepEqual(await inventory(root), before)
  return { place, root, own, base, image, running, snapshot, things, unchanged, more }
}

/** Of the machine's system disk, once it can be used. In WUYING's spelling. */
async function takeSnapshot(person: Person, machineId: string): Promise<string> {
  const { SnapshotId } = await good<{ SnapshotId: string }>(
    person.wuying('CreateSnapshot', {
      RegionId: HOME,
      DesktopId: machineId,
      SnapshotName: newName('snapshot'),
      SourceDiskType: 'SYSTEM',
    }),
  )
  await until(`${SnapshotId} is made`, async () => {
    const { Snapshots } = await good<{ Snapshots: readonly { Status: string }[] }>(
      person.wuying('DescribeSnapshots', { RegionId: HOME, SnapshotId }),
    )
    const status = Snapshots[0]?.Status
    assert.notEqual(status, 'FAILED')
    return status === 'ACCOMPLISHED' || undefined
  })
  return SnapshotId
}

export async function wuyingRefuses(
  person: Person,
  action: string,
  parameters: Flat,
  expected: readonly [status: number, code: string],
  message: RegExp = /./,
): Promise<void> {
  const { status, json, text } = await person.wuying(action, parameters)
  assert.deepEqual([status, json.Code], expected, `${action} ${JSON.stringify(parameters)}: ${text}`)
  assert.match(String(json.Message), message)
}

export async function uhostRefuses(
  person: Person,
  action: string,
  parameters: Flat,
  codes: number | readonly number[],
  message: RegExp = /./,
): Promise<void> {
  const { json, text } = await person.uhost(action, parameters)
  const known = ([] as readonly number[]).concat(codes)
  assert.ok(known.includes(Number(json.RetCode)), `${action} ${JSON.stringify(parameters)}: ${text}`)
  assert.match(String(json.Message), message)
  assert.equal(json.Action, `${action}Response`)
}

export async function nativeRefuses(
  answer: Promise<Answer>,
  status: number,
  kind: string,
  message: RegExp = /./,
): Promise<void> {
  const { status: got, json, text } = await answer
  const { error } = json as { error?: { kind: string; message: string } }
  assert.deepEqual([got, error?.kind], [status, kind], text)
  assert.match(String(error?.message), message)
}

export const ask = (person: Person, route: string, { path, query, body }: NativeCall) =>
  person.native(route.split(' ')[0] ?? '', path, { ...(query && { query }), ...(body && { body }) })

/** Without the parameter and all that is below it. */
export const without = (parameters: Flat, name: string): Flat =>
  Object.fromEntries(
    Object.entries(parameters).filter(([key]) => key !== name && !key.startsWith(`${name}.`)),
  )
