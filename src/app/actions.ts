import type { Dialect } from '../image/ids.ts'

/**
 * What each use case is called in a policy, by the door it is asked through. A door without a name for a use case
 * cannot ask for it. WUYING: RAM code `ecd`; UHost: product and operation; ours: `calotype`.
 */
export const ACTIONS = {
  'regions.list': {
    wuying: 'ecd:DescribeRegions',
    uhost: 'uaccount:GetRegion',
    native: 'calotype:ListRegions',
  },
  'projects.list': { uhost: 'uaccount:GetProjectList', native: 'calotype:ListProjects' },
  'projects.create': { native: 'calotype:CreateProject' },
  'projects.setQuota': { native: 'calotype:SetProjectQuota' },
  'users.create': { native: 'calotype:CreateUser' },
  'users.putPolicy': { native: 'calotype:PutPolicy' },
  'users.attach': { native: 'calotype:AttachPolicy' },
  'images.capture': {
    wuying: 'ecd:CreateImage',
    uhost: 'uhost:CreateCustomImage',
    native: 'calotype:CaptureImage',
  },
  'images.compose': { wuying: 'ecd:CreateImage', native: 'calotype:CaptureImage' },
  'images.plan': { native: 'calotype:CaptureImage' },
  'images.clean': { native: 'calotype:CleanImage' },
  'images.report': { native: 'calotype:ReadCleaningReport' },
  'images.copy': { uhost: 'uhost:CopyCustomImage', native: 'calotype:CopyImage' },
  'images.import': {
    wuying: 'ecd:UploadImage',
    uhost: 'uhost:ImportCustomImage',
    native: 'calotype:ImportImage',
  },
  'uploads.create': { native: 'calotype:ImportImage' },
  'uploads.list': { native: 'calotype:ImportImage' },
  'uploads.remove': { native: 'calotype:DeleteUpload' },
  'exports.create': { native: 'calotype:ExportImage' },
  'exports.bundle': { native: 'calotype:ExportBundle' },
  'exports.inventory': { native: 'calotype:ExportImage' },
  'images.list': {
    wuying: 'ecd:DescribeImages',
    uhost: 'uhost:DescribeImage',
    native: 'calotype:ListImages',
  },
  'images.copyProgress': { uhost: 'uhost:GetImageCopyProgress', native: 'calotype:ListImages' },
  'images.remove': {
    wuying: 'ecd:DeleteImages',
    uhost: 'uhost:TerminateCustomImage',
    native: 'calotype:DeleteImage',
  },
  'snapshots.create': { wuying: 'ecd:CreateSnapshot', native: 'calotype:CreateSnapshot' },
  'snapshots.list': { wuying: 'ecd:DescribeSnapshots', native: 'calotype:ListSnapshots' },
  'snapshots.remove': { wuying: 'ecd:DeleteSnapshot', native: 'calotype:DeleteSnapshot' },
  'snapshots.reset': { wuying: 'ecd:ResetSnapshot', native: 'calotype:ResetDisk' },
  'snapshotPolicies.create': { native: 'calotype:CreateSnapshotPolicy' },
  'snapshotPolicies.list': { native: 'calotype:ListSnapshotPolicies' },
  'snapshotPolicies.change': { native: 'calotype:ChangeSnapshotPolicy' },
  'snapshotPolicies.remove': { native: 'calotype:DeleteSnapshotPolicy' },
  'machines.create': {
    wuying: 'ecd:CreateDesktops',
    uhost: 'uhost:CreateUHostInstance',
    native: 'calotype:CreateMachine',
  },
  'machines.list': {
    wuying: 'ecd:DescribeDesktops',
    uhost: 'uhost:DescribeUHostInstance',
    native: 'calotype:ListMachines',
  },
  'machines.start': {
    wuying: 'ecd:StartDesktops',
    uhost: 'uhost:StartUHostInstance',
    native: 'calotype:StartMachine',
  },
  'machines.stop': {
    wuying: 'ecd:StopDesktops',
    uhost: 'uhost:StopUHostInstance',
    native: 'calotype:StopMachine',
  },
  'machines.poweroff': { uhost: 'uhost:PoweroffUHostInstance', native: 'calotype:StopMachine' },
  'machines.remove': {
    wuying: 'ecd:DeleteDesktops',
    uhost: 'uhost:TerminateUHostInstance',
    native: 'calotype:DeleteMachine',
  },
  'machines.console': { native: 'calotype:UseConsole' },
  'tasks.list': { native: 'calotype:ListTasks' },
  'tasks.cancel': { native: 'calotype:CancelTask' },
  'tasks.verify': { native: 'calotype:Verify' },
  'store.collect': { native: 'calotype:CollectGarbage' },
  'store.scrub': { native: 'calotype:Scrub' },
  'store.usage': { native: 'calotype:GetUsage' },
} as const satisfies Record<string, Partial<Record<Dialect, string>>>

export type UseCase = keyof typeof ACTIONS
