import type { Flat } from './wire.ts'

/** Things that calls are about; each is asked for anew, so that a test may hand out one only once. */
export interface Things {
  readonly project: string
  readonly otherProject: string
  base(): string
  /** A custom image of the project, available, in cn-hangzhou. */
  image(): string
  /** A copy of one in hk. */
  copy(): string
  /** An image in hk that is still being copied there. */
  copying(): string
  /** The task of a copy that is still to be done. */
  copyTask(): string
  /** The task of a copy that was cancelled. */
  cancelledCopy(): string
  /** A custom image that was made by cleaning, available, in cn-hangzhou. */
  cleaned(): string
  running(): string
  stopped(): string
  /** A snapshot of a machine's system disk, available, in cn-hangzhou. */
  snapshot(): string
  /** A snapshot policy that is off. */
  policy(): string
  /** An upload to which nothing was sent. */
  upload(): string
  /** A task; to be cancelled it has to be under way. */
  task(): string
  /** A webhook that nothing is sent to. */
  webhook(): string
  /** A replication rule that no image fits. */
  rule(): string
  user(): string
}

export interface NativeCall {
  readonly path: string
  readonly query?: Flat
  readonly body?: Readonly<Record<string, unknown>>
}

export const HOME = 'cn-hangzhou'
export const AWAY = 'hk'
export const DESKTOP_TYPE = 'ecd.demo.1c1g'
export const PASSWORD = Buffer.from('Pass-word-4-nobody').toString('base64')

/** Good as an address, and nobody is there: what is imported from it fails. */
const NOWHERE = 'http://files.invalid/disk.raw'

/** What no image is called. */
const NO_NAME = 'no-image-is-called-so-*'

let nameCount = 0
export const newName = (word: string): string => `${word}-${++nameCount}`

/** Good parameters of every operation of WUYING, those that are required and a few more. */
export const wuyingCalls: Readonly<Record<string, (things: Things) => Flat>> = {
  DescribeRegions: () => ({ RegionId: HOME }),
  CreateDesktops: (things) => ({
    RegionId: HOME,
    DesktopName: newName('made'),
    DesktopAttachment: JSON.stringify({ ImageId: things.base(), DesktopType: DESKTOP_TYPE }),
  }),
  DescribeDesktops: () => ({ RegionId: HOME }),
  StartDesktops: (things) => ({ RegionId: HOME, 'DesktopId.1': things.stopped() }),
  StopDesktops: (things) => ({ RegionId: HOME, 'DesktopId.1': things.running() }),
  DeleteDesktops: (things) => ({ RegionId: HOME, 'DesktopId.1': things.running() }),
  CreateImage: (things) => ({ RegionId: HOME, DesktopId: things.running(), ImageName: newName('taken') }),
  DescribeImages: () => ({ RegionId: HOME }),
  DeleteImages: (things) => ({ RegionId: HOME, 'ImageId.1': things.image() }),
  UploadImage: () => ({ RegionId: HOME, ImageName: newName('brought'), OssObjectPath: NOWHERE }),
  CopyImage: (things) => ({
    RegionId: HOME,
    ImageId: things.image(),
    DestinationRegionId: AWAY,
    DestinationImageName: newName('copied'),
  }),
  CancelCopyImage: (things) => ({ RegionId: AWAY, ImageId: things.copying() }),
  CreateSnapshot: (things) => ({
    RegionId: HOME,
    DesktopId: things.running(),
    SnapshotName: newName('taken'),
    SourceDiskType: 'SYSTEM',
  }),
  DescribeSnapshots: () => ({ RegionId: HOME }),
  DeleteSnapshot: (things) => ({ RegionId: HOME, 'SnapshotId.1': things.snapshot() }),
  ResetSnapshot: (things) => ({ RegionId: HOME, SnapshotId: things.snapshot(), StopDesktop: 'true' }),
}

const place = (things: Things) => ({ Region: HOME, ProjectId: things.project })

export const uhostCalls: Readonly<Record<string, (things: Things) => Flat>> = {
  GetRegion: () => ({}),
  GetProjectList: () => ({}),
  DescribeImage: place,
  CreateCustomImage: (things) => ({
    ...place(things),
    UHostId: things.running(),
    ImageName: newName('taken'),
  }),
  ImportCustomImage: (things) => ({
    ...place(things),
    ImageName: newName('brought'),
    UFileUrl: NOWHERE,
    OsType: 'Other',
    OsName: 'Other',
    Format: 'RAW',
    Auth: 'true',
  }),
  CopyCustomImage: (things) => ({
    ...place(things),
    SourceImageId: things.image(),
    TargetProjectId: things.project,
    TargetRegion: AWAY,
  }),
  GetImageCopyProgress: (things) => ({ ...place(things), Region: AWAY, ImageId: things.copy() }),
  TerminateCustomImage: (things) => ({ ...place(things), ImageId: things.image() }),
  CreateUHostInstance: (things) => ({
    ...place(things),
    Zone: 'cn-hangzhou-h',
    ImageId: things.base(),
    Name: newName('made'),
    CPU: '1',
    Memory: '1024',
    LoginMode: 'Password',
    Password: PASSWORD,
  }),
  DescribeUHostInstance: place,
  StartUHostInstance: (things) => ({ ...place(things), UHostId: things.stopped() }),
  StopUHostInstance: (things) => ({ ...place(things), UHostId: things.running() }),
  PoweroffUHostInstance: (things) => ({ ...place(things), UHostId: things.running() }),
  TerminateUHostInstance: (things) => ({ ...place(things), UHostId: things.stopped() }),
}

const home = { region: HOME }
const one = (path: string, query: Flat = {}): NativeCall => ({ path, query: { ...home, ...query } })

/** By method and pattern, as in the route table. */
export const nativeCalls: Readonly<Record<string, (things: Things) => NativeCall>> = {
  'GET /v1/regions': () => ({ path: '/v1/regions' }),
  'GET /v1/projects': () => ({ path: '/v1/projects' }),
  'POST /v1/projects': () => ({ path: '/v1/projects', body: { name: newName('team') } }),
  'PUT /v1/projects/:projectId/quota': (things) => ({
    path: `/v1/projects/${things.project}/quota`,
    body: { quotaBytes: 'none' },
  }),
  'POST /v1/users': () => ({ path: '/v1/users', body: { name: newName('user') } }),
  'PUT /v1/policies/:name': () => ({
    path: `/v1/policies/${newName('policy')}`,
    body: {
      document: { Version: '1', Statement: [{ Effect: 'Allow', Action: 'ecd:Describe*', Resource: '*' }] },
    },
  }),
  'POST /v1/attachments': (things) => ({
    path: '/v1/attachments',
    body: { user: things.user(), policy: 'AliyunECDReadOnlyAccess', project: things.project },
  }),
  'GET /v1/images': () => one('/v1/images'),
  'GET /v1/images/:id': (things) => one(`/v1/images/${things.base()}`),
  'POST /v1/images/import': () => ({
    path: '/v1/images/import',
    body: { ...home, fileName: 'small.raw', name: newName('imported') },
  }),
  'GET /v1/uploads': () => one('/v1/uploads'),
  'POST /v1/uploads': () => ({
    path: '/v1/uploads',
    body: { ...home, name: newName('sent'), lengthBytes: 4096 },
  }),
  'GET /v1/uploads/:id': (things) => one(`/v1/uploads/${things.upload()}`),
  'DELETE /v1/uploads/:id': (things) => one(`/v1/uploads/${things.upload()}`),
  'POST /v1/images/:id/exports': (things) => ({
    path: `/v1/images/${things.base()}/exports`,
    body: { ...home, format: 'raw' },
  }),
  'GET /v1/inventory': () => one('/v1/inventory'),
  'POST /v1/images/capture': (things) => ({
    path: '/v1/images/capture',
    body: { ...home, machineId: things.running(), name: newName('taken') },
  }),
  'POST /v1/images/plan': (things) => ({
    path: '/v1/images/plan',
    body: { ...home, machineId: things.running() },
  }),
  'POST /v1/images/compose': (things) => ({
    path: '/v1/images/compose',
    body: { ...home, snapshotIds: [things.snapshot()], name: newName('composed') },
  }),
  // Disks of random bytes are no file system that anybody could clean.
  'POST /v1/images/:id/clean': (things) => ({
    path: `/v1/images/${things.image()}/clean`,
    body: { ...home, clean: { bestEffort: true }, name: newName('cleaned') },
  }),
  'POST /v1/images/:id/clean/plan': (things) => ({
    path: `/v1/images/${things.image()}/clean/plan`,
    body: { ...home, clean: 'windows' },
  }),
  'GET /v1/images/:id/report': (things) => one(`/v1/images/${things.cleaned()}/report`),
  'POST /v1/images/:id/copy': (things) => ({
    path: `/v1/images/${things.image()}/copy`,
    body: { ...home, targetRegions: [AWAY] },
  }),
  'POST /v1/images/:id/copy/plan': (things) => ({
    path: `/v1/images/${things.image()}/copy/plan`,
    body: { ...home, targetRegions: [AWAY] },
  }),
  'GET /v1/peers': () => ({ path: '/v1/peers' }),
  'DELETE /v1/images/:id': (things) => one(`/v1/images/${things.image()}`),
  'GET /v1/snapshots': () => one('/v1/snapshots'),
  'GET /v1/snapshots/:id': (things) => one(`/v1/snapshots/${things.snapshot()}`),
  'POST /v1/snapshots': (things) => ({
    path: '/v1/snapshots',
    body: { ...home, machineId: things.running(), name: newName('snapshot') },
  }),
  'POST /v1/snapshots/:id/reset': (things) => ({
    path: `/v1/snapshots/${things.snapshot()}/reset`,
    body: { ...home, stopFirst: true },
  }),
  'DELETE /v1/snapshots/:id': (things) => one(`/v1/snapshots/${things.snapshot()}`),
  'GET /v1/snapshot-policies': () => one('/v1/snapshot-policies'),
  'GET /v1/snapshot-policies/:id': (things) => one(`/v1/snapshot-policies/${things.policy()}`),
  'POST /v1/snapshot-policies': (things) => ({
    path: '/v1/snapshot-policies',
    body: {
      ...home,
      name: newName('nightly'),
      cron: '0 3 * * *',
      keepCount: 3,
      machineIds: [things.running()],
      isEnabled: false,
    },
  }),
  'PATCH /v1/snapshot-policies/:id': (things) => ({
    path: `/v1/snapshot-policies/${things.policy()}`,
    body: { ...home, keepCount: 2 },
  }),
  'DELETE /v1/snapshot-policies/:id': (things) => one(`/v1/snapshot-policies/${things.policy()}`),
  'GET /v1/machines': () => one('/v1/machines'),
  'GET /v1/machines/:id': (things) => one(`/v1/machines/${things.running()}`),
  'POST /v1/machines': (things) => ({
    path: '/v1/machines',
    body: { ...home, imageId: things.base(), name: newName('made') },
  }),
  'POST /v1/machines/:id/start': (things) => one(`/v1/machines/${things.stopped()}/start`),
  'POST /v1/machines/:id/stop': (things) => one(`/v1/machines/${things.running()}/stop`),
  'DELETE /v1/machines/:id': (things) => one(`/v1/machines/${things.running()}`),
  'GET /v1/machines/:id/console': (things) => one(`/v1/machines/${things.running()}/console`),
  'POST /v1/machines/:id/console': (things) => ({
    ...one(`/v1/machines/${things.running()}/console`),
    body: { bytes: Buffer.from('echo hello\n').toString('base64') },
  }),
  'GET /v1/tasks': () => ({ path: '/v1/tasks' }),
  'GET /v1/tasks/:id': (things) => ({ path: `/v1/tasks/${things.task()}` }),
  'DELETE /v1/tasks/:id': (things) => ({ path: `/v1/tasks/${things.task()}` }),
  'PATCH /v1/tasks/:id': (things) => ({ path: `/v1/tasks/${things.copyTask()}`, body: { priority: 9 } }),
  'POST /v1/tasks/:id/retry': (things) => ({ path: `/v1/tasks/${things.cancelledCopy()}/retry` }),
  'GET /v1/events': () => ({ path: '/v1/events' }),
  'GET /v1/events/stream': () => ({ path: '/v1/events/stream' }),
  'POST /v1/webhooks': () => ({
    path: '/v1/webhooks',
    body: { name: newName('hook'), url: NOWHERE, kinds: ['verify-region'] },
  }),
  'GET /v1/webhooks': () => ({ path: '/v1/webhooks' }),
  'PATCH /v1/webhooks/:id': (things) => ({
    path: `/v1/webhooks/${things.webhook()}`,
    body: { isEnabled: false },
  }),
  'DELETE /v1/webhooks/:id': (things) => ({ path: `/v1/webhooks/${things.webhook()}` }),
  'POST /v1/replication-rules': () => ({
    path: '/v1/replication-rules',
    body: { ...home, name: newName('rule'), filter: { namePattern: NO_NAME }, targetRegions: [AWAY] },
  }),
  'GET /v1/replication-rules': () => one('/v1/replication-rules'),
  'GET /v1/replication-rules/:id': (things) => ({ path: `/v1/replication-rules/${things.rule()}` }),
  'PATCH /v1/replication-rules/:id': (things) => ({
    path: `/v1/replication-rules/${things.rule()}`,
    body: { isEnabled: false },
  }),
  'DELETE /v1/replication-rules/:id': (things) => ({ path: `/v1/replication-rules/${things.rule()}` }),
  'POST /v1/verify': () => ({ path: '/v1/verify', body: { regions: [AWAY] } }),
  'POST /v1/store/collect': () => ({ path: '/v1/store/collect', body: { regions: [AWAY], dryRun: true } }),
  'POST /v1/store/scrub': () => ({ path: '/v1/store/scrub', body: { regions: [AWAY] } }),
  'GET /v1/store/usage': () => ({ path: '/v1/store/usage', query: { regions: AWAY } }),
}
