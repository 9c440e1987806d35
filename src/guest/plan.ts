import assert from 'node:assert/strict'
import { CLEANING_OPERATIONS, type CleaningOperation } from '../image/cleaning.ts'
import type { GuestVolume, MakePlan } from './contract.ts'
import { Draft } from './draft.ts'
import { planHomes } from './homes.ts'
import { planHostKeys } from './host-keys.ts'
import { planBootSeeds, planFixed } from './identity.ts'
import { findLinux, type LinuxSystem } from './linux.ts'
import { planLogins, planLogs } from './logs.ts'
import { planProfiles } from './profiles.ts'
import { planRecycleBins } from './recycle-bins.ts'
import { scanSecrets } from './secrets.ts'
import { planCron, planMail } from './spools.ts'
import { planSwapFiles } from './swap-files.ts'
import { findWindows, type WindowsSystem } from './windows.ts'
import { planShadowCopies, planWindowsFiles } from './windows-files.ts'

interface Machine {
  readonly volumes: readonly GuestVolume[]
  readonly windows: readonly WindowsSystem[]
  readonly linux: readonly LinuxSystem[]
}

type Operate = (machine: Machine, draft: Draft) => Promise<void>

/** One entry for each operation: a name that does nothing does not compile. */
const OPERATIONS: Readonly<Record<CleaningOperation, Operate>> = {
  profiles: ({ windows }, draft) => planProfiles(windows, draft),
  'recycle-bins': ({ volumes, windows }, draft) => planRecycleBins(volumes, windows, draft),
  'shadow-copies': ({ volumes }, draft) => planShadowCopies(volumes, draft),
  'paging-files': ({ volumes }, draft) => planWindowsFiles('paging-files', volumes, draft),
  'memory-dumps': ({ volumes }, draft) => planWindowsFiles('memory-dumps', volumes, draft),
  'search-index': ({ volumes }, draft) => planWindowsFiles('search-index', volumes, draft),
  homes: onLinux(planHomes),
  mail: onLinux(planMail),
  cron: onLinux(planCron),
  'temporary-files': onLinux((system, draft) => planFixed('temporary-files', system, draft)),
  swap: onLinux(planSwapFiles),
  'machine-id': onLinux((system, draft) => planFixed('machine-id', system, draft)),
  'ssh-host-keys': onLinux(planHostKeys),
  'random-seed': async (machine, draft) => {
    await onLinux((system) => planFixed('random-seed', system, draft))(machine, draft)
    await planBootSeeds(machine.volumes, draft)
  },
  'dhcp-leases': onLinux((system, draft) => planFixed('dhcp-leases', system, draft)),
  'network-names': onLinux((system, draft) => planFixed('network-names', system, draft)),
  'cloud-init': onLinux((system, draft) => planFixed('cloud-init', system, draft)),
  logs: onLinux(planLogs),
  logins: onLinux(planLogins),
  histories: onLinux((system, draft) => planFixed('histories', system, draft)),
  'crash-dumps': onLinux((system, draft) => planFixed('crash-dumps', system, draft)),
  'password-backups': onLinux((system, draft) => planFixed('password-backups', system, draft)),
  'package-caches': onLinux((system, draft) => planFixed('package-caches', system, draft)),
  subscriptions: onLinux((system, draft) => planFixed('subscriptions', system, draft)),
}

/**
 * The written plan: what goes, what stays and why, before anything is done. A dry run and a real one make the same.
 * `volumes` are all of a machine, so that what belongs together over disks is found together.
 */
export const makePlan: MakePlan = async (volumes, wish) => {
  assert(new Set(volumes.map(({ index }) => index)).size === volumes.length)
  const draft = new Draft(wish.isBestEffort)
  const isProfileListNeeded = ['profiles', 'recycle-bins'].some((name) =>
    wish.operations.some((one) => one === name),
  )
  const windows = await findWindows(volumes, isProfileListNeeded)
  const linux = await findLinux(volumes, draft)
  if (windows.length === 0 && linux.length === 0) {
    draft.warn(
      'Neither Windows nor Linux was found on the disks: the rules for their users apply to nothing.',
    )
  }
  if (windows.length > 0 && !wish.operations.includes('profiles'))
    draft.warn("Windows was found, and 'profiles' is not chosen: what its users have stays.")
  if (linux.length > 0 && !wish.operations.includes('homes'))
    draft.warn("Linux was found, and 'homes' is not chosen: what its users have stays.")
  for (const { name } of CLEANING_OPERATIONS) {
    if (wish.operations.includes(name)) await OPERATIONS[name]({ volumes, windows, linux }, draft)
  }
  draft.settle()
  await scanSecrets(volumes, windows, linux, draft)
  return draft.plan()
}

function onLinux(operate: (system: LinuxSystem, draft: Draft) => Promise<void>): Operate {
  return async ({ linux }, draft) => {
    for (const system of linux) await operate(system, draft)
  }
}
