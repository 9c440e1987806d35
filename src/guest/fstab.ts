import type { Path } from '../volume/contract.ts'
import type { GuestVolume } from './contract.ts'
import { splitPath } from './names.ts'

/** A line of /etc/fstab. */
export interface FstabEntry {
  readonly source: string
  readonly point: Path
  readonly type: string
  readonly isBind: boolean
}

const ENTRY_COUNT_MAX = 1000
/** What a mount point may have of names: more is nobody's table. */
const POINT_NAME_COUNT_MAX = 32

/** Source: fstab(5) of util-linux: fields between blanks, '\040' for a blank in them. Lines that are none are passed over. */
export function parseFstab(text: string): readonly FstabEntry[] {
  const entries: FstabEntry[] = []
  for (const line of text.split('\n')) {
    const [source, point, type, options = ''] = line.trim().split(/[ \t]+/)
    if (source === undefined || point === undefined || type === undefined || source.startsWith('#')) continue
    const path = splitPath(unescapeOctal(point))
    if (path.length > POINT_NAME_COUNT_MAX || path.includes('..')) continue
    const isBind = options.split(',').some((option) => option === 'bind' || option === 'rbind')
    entries.push({ source: unescapeOctal(source).replaceAll('"', ''), point: path, type, isBind })
    if (entries.length === ENTRY_COUNT_MAX) break
  }
  return entries
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))
}

/** The volume that a source of fstab names. 'unknown': it may be one, but what is on it does not say which. */
export function findSource(
  source: string,
  volumes: readonly GuestVolume[],
): GuestVolume | 'unknown' | undefined {
  const [, byKind, byName = ''] = /^\/dev\/disk\/by-(uuid|label)\/(.+)$/.exec(source) ?? []
  const [, kind = byKind, name = byName] = /^(UUID|LABEL)=(.*)$/i.exec(source) ?? []
  if (kind !== undefined && name !== '') {
    const isUuid = kind.toLowerCase() === 'uuid'
    return volumes.find(({ files }) =>
      isUuid ? files.uuid.toLowerCase() === name.toLowerCase() : files.label === unescapeUdev(name),
    )
  }
  const device = /^\/dev\/(?:(?:s|v|xv|h)d([a-z])(\d*)|nvme(\d+)n1(?:p(\d+))?)$/.exec(source)
  if (device !== null) {
    const [, letter, number, controller, controllerPartition] = device
    const diskIndex = letter === undefined ? Number(controller) : letter.charCodeAt(0) - 'a'.charCodeAt(0)
    const partition = Number(number || controllerPartition || 0)
    return volumes.find((volume) => volume.diskIndex === diskIndex && volume.partition === partition)
  }
  return /^(PARTUUID=|PARTLABEL=|\/dev\/disk\/by-)/i.test(source) ? 'unknown' : undefined
}

/** As udev writes a label in the name of a link. */
function unescapeUdev(name: string): string {
  return name.replace(/\\x([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(parseInt(digits, 16)))
}
