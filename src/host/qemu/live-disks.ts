import { rm } from 'node:fs/promises'
import { CONTEXT_OF_BITMAP, type Outcome } from '../tools/bitmaps.ts'
import type { ExportRecord } from '../tools/exports.ts'
import type { KeptDisk, KeptSpec } from '../tools/folders.ts'
import { shortName } from '../tools/sockets.ts'
import { momentCommand, settleLive } from './bitmaps.ts'
import { drivePath, overlayName } from './command-line.ts'
import { exportIds, nodeNames, removeNode, unlessRefused } from './nodes.ts'
import type { Qmp, QmpCommand } from './qmp.ts'

/** After this long without the old bytes saved, the snapshot breaks rather than the guest waits. */
const COPY_TIMEOUT_SECONDS = 30

/** A disk, and what belongs to its capture inside QEMU. */
export interface LiveDisk {
  readonly id: KeptDisk['id']
  readonly disk: KeptDisk
  readonly index: number
  readonly overlay: string
  readonly scratch: string
  readonly filter: string
  readonly access: string
  readonly dataExport: string
  readonly mapExport: string
  readonly drivePath: string
}

/** All disks of the machine, whichever of them are captured. */
export function liveDisks(spec: KeptSpec, key: string): LiveDisk[] {
  return spec.disks.map((disk, index) => {
    const tail = `${shortName(key)}-${index}`
    return {
      id: disk.id,
      disk,
      index,
      overlay: overlayName(index),
      scratch: `scratch-${tail}`,
      filter: `filter-${tail}`,
      access: `access-${tail}`,
      dataExport: `data-${tail}`,
      mapExport: `map-${tail}`,
      drivePath: drivePath(disk, index),
    }
  })
}

/**
 * The one moment; answers how long the guest stood. All commands are on their way before the first is answered, to keep
 * the pause short. A guest that stands still changes nothing meanwhile, and it is not ours to let it go on.
 */
export async function takeMoment(
  qmp: Qmp,
  disks: readonly LiveDisk[],
  record: ExportRecord,
): Promise<number> {
  const places = disks.map(({ overlay, disk }) => ({ node: overlay, since: record.previous[disk.id] }))
  const moment = [momentCommand(places, record.key), ...disks.flatMap(filterCommands)]
  qmp.events.length = 0
  const isStanding = record.guest === 'standing'
  const commands = isStanding ? moment : [{ execute: 'stop' }, ...moment, { execute: 'cont' }]
  const outcomes = await qmp.executeAll(commands)
  const failure = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failure !== undefined) throw failure.reason
  return pausedMs(qmp)
}

function filterCommands(own: LiveDisk): QmpCommand[] {
  const filter = {
    'node-name': own.filter,
    driver: 'copy-before-write',
    file: own.overlay,
    target: own.scratch,
    'on-cbw-error': 'break-snapshot',
    'cbw-timeout': COPY_TIMEOUT_SECONDS,
  }
  return [
    { execute: 'blockdev-add', arguments: filter },
    { execute: 'qom-set', arguments: { path: own.drivePath, property: 'drive', value: own.filter } },
  ]
}

/** By QEMU's own clock, from its events; a guest that stood still already has none, and was not paused by us. */
function pausedMs(qmp: Qmp): number {
  const at = (name: string) => {
    const event = qmp.events.find((one) => one.event === name)
    return event && event.timestamp.seconds * 1000 + event.timestamp.microseconds / 1000
  }
  const [stop, resume] = [at('STOP'), at('RESUME')]
  return stop === undefined || resume === undefined ? 0 : Math.round((resume - stop) * 1000) / 1000
}

/** Opens the exports of a moment that was taken. */
export async function serveMoment(
  qmp: Qmp,
  disks: readonly LiveDisk[],
  path: string,
  record: ExportRecord,
): Promise<void> {
  await rm(path, { force: true })
  // 0: no limit. How many connections read one disk is the setting of whoever captures.
  const server = { addr: { type: 'unix', data: { path } }, 'max-connections': 0 }
  await qmp.execute('nbd-server-start', server)
  for (const [at, own] of disks.entries()) {
    const { id } = own
    await qmp.execute('blockdev-add', {
      'node-name': own.access,
      driver: 'snapshot-access',
      file: own.filter,
    })
    const changes = record.disks[at]?.changes
    const bitmap = changes && { node: own.overlay, name: changes.name.slice(CONTEXT_OF_BITMAP.length) }
    const exported = [
      { id: own.dataExport, 'node-name': own.access, name: id },
      {
        id: own.mapExport,
        'node-name': own.scratch,
        name: `${id}-map`,
        'allocation-depth': true,
        ...(bitmap && { bitmaps: [bitmap] }),
      },
    ]
    for (const one of exported)
      await qmp.execute('block-export-add', { type: 'nbd', writable: false, ...one })
  }
}

/** Takes away what there is of a capture: of all disks, as nobody may know any more which it was of. */
export async function dismantle(
  qmp: Qmp,
  disks: readonly LiveDisk[],
  key: string,
  outcome: Outcome,
  record: ExportRecord | undefined,
): Promise<void> {
  const open = await exportIds(qmp)
  for (const id of disks.flatMap((own) => [own.dataExport, own.mapExport])) {
    if (open.has(id)) await qmp.execute('block-export-del', { id, mode: 'hard' })
  }
  await unlessRefused(qmp.execute('nbd-server-stop'))
  const nodes = await nodeNames(qmp)
  for (const own of disks) {
    if (nodes.has(own.access)) await removeNode(qmp, own.access)
    if (nodes.has(own.filter)) {
      const place = { path: own.drivePath, property: 'drive' }
      if ((await qmp.execute('qom-get', place)) === own.filter)
        await qmp.execute('qom-set', { ...place, value: own.overlay })
      await removeNode(qmp, own.filter)
    }
    if (nodes.has(own.scratch)) await removeNode(qmp, own.scratch)
  }
  const places = disks
    .filter(({ disk }) => record?.disks.some(({ id }) => id === disk.id))
    .map(({ overlay, disk }) => ({ node: overlay, since: record?.previous[disk.id] }))
  await settleLive(qmp, places, key, outcome)
}
