import { Fault } from '../../image/fault.ts'
import { spellId } from '../../image/ids.ts'
import type { Machine } from '../../image/machine.ts'
import { GIB, gibCeil, MIB } from '../../image/region.ts'
import { spellDesktopStatus, spellMinute } from './spell.ts'

/** What CreateDesktops was told and DescribeDesktops says again. It is kept in `Machine.details`. */
export interface DesktopDetails {
  readonly chargeType: 'PostPaid' | 'PrePaid'
  readonly officeSiteId: string
  readonly policyGroupId: string
  readonly endUserIds: readonly string[]
  readonly userAssignMode: 'ALL' | 'PER_USER'
  readonly resourceGroupId: string
  readonly hostName: string
  readonly systemDiskLevel: string
  readonly dataDiskLevel: string
}

/** The details of a machine, with this cloud's defaults for one that was made through another door. */
export function detailsOf({ details }: Pick<Machine, 'details'>): DesktopDetails {
  const textOf = (name: keyof DesktopDetails, otherwise: string): string => {
    const value = details[name]
    return typeof value === 'string' ? value : otherwise
  }
  const users = details.endUserIds
  return {
    chargeType: textOf('chargeType', '') === 'PrePaid' ? 'PrePaid' : 'PostPaid',
    officeSiteId: textOf('officeSiteId', ''),
    policyGroupId: textOf('policyGroupId', ''),
    endUserIds: Array.isArray(users) ? users.filter((user) => typeof user === 'string') : [],
    userAssignMode: textOf('userAssignMode', '') === 'PER_USER' ? 'PER_USER' : 'ALL',
    resourceGroupId: textOf('resourceGroupId', ''),
    hostName: textOf('hostName', ''),
    systemDiskLevel: textOf('systemDiskLevel', 'PL0'),
    dataDiskLevel: textOf('dataDiskLevel', 'PL0'),
  }
}

/** What a DesktopType means here: `eds.enterprise_office.4c8g` has 4 CPUs and 8 GiB. Throws Fault 'invalid'. */
export function parseDesktopType(
  typeName: string,
  field: string,
): { readonly cpuCount: number; readonly memoryBytes: number } {
  const match = /^[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*\.(\d{1,3})c(\d{1,4})g$/i.exec(typeName)
  const cpuCount = Number(match?.[1])
  const memoryGib = Number(match?.[2])
  if (!(cpuCount >= 1 && cpuCount <= 256 && memoryGib >= 1 && memoryGib <= 4096)) {
    throw new Fault(
      'invalid',
      'It takes FAMILY.<CPUs>c<GiB>g with 1 to 256 CPUs and 1 to 4096 GiB, like eds.enterprise_office.4c8g.',
      { field },
    )
  }
  return { cpuCount, memoryBytes: memoryGib * GIB }
}

/** One item of DescribeDesktops; undefined for a machine that is no longer listed. Source: wuying.md §4.4.2. */
export function packDesktop(
  machine: Machine,
  fillResourceGroup: boolean,
): Readonly<Record<string, unknown>> | undefined {
  const status = spellDesktopStatus(machine.state)
  if (status === undefined) return undefined
  const details = detailsOf(machine)
  return {
    DesktopId: spellId('machine', machine.id, 'wuying'),
    DesktopName: machine.name,
    DesktopStatus: status,
    DesktopType: machine.typeName,
    ImageId: spellId('image', machine.imageId, 'wuying'),
    OsType: machine.osType,
    Platform: machine.osName,
    ProtocolType: 'ASP',
    SessionType: 'SINGLE_SESSION',
    Cpu: machine.cpuCount,
    Memory: Math.round(machine.memoryBytes / MIB),
    GpuCategory: 0,
    GpuCount: 0,
    Disks: machine.disks.map((disk) => ({
      DiskId: spellId('disk', disk.id, 'wuying'),
      DiskType: disk.index === 0 ? 'SYSTEM' : 'DATA',
      DiskCategory: disk.category,
      DiskSize: gibCeil(disk.sizeBytes),
      PerformanceLevel: disk.index === 0 ? details.systemDiskLevel : details.dataDiskLevel,
    })),
    SystemDiskSize: gibCeil(machine.disks[0]?.sizeBytes ?? 0),
    Progress: status === 'Pending' || status === 'Failed' ? '0%' : '100%',
    ConnectionStatus: 'Unknown',
    ChargeType: details.chargeType,
    CreationTime: spellMinute(machine.createdAtMs),
    HostName: details.hostName,
    OfficeSiteId: details.officeSiteId,
    DirectoryId: details.officeSiteId,
    PolicyGroupId: details.policyGroupId,
    PolicyGroupIdList: details.policyGroupId === '' ? [] : [details.policyGroupId],
    EndUserIds: details.endUserIds,
    BindAmount: details.endUserIds.length,
    Sessions: [],
    Tags: machine.labels.map(({ key, value }) => ({ Key: key, Value: value })),
    ResourceGroups:
      fillResourceGroup && details.resourceGroupId !== ''
        ? [{ Id: details.resourceGroupId, Name: details.resourceGroupId }]
        : [],
    ManagementFlag: 'NoFlag',
    ManagementFlags: [],
    SupportHibernation: false,
    VolumeEncryptionEnabled: false,
    ZoneType: 'AvailabilityZone',
  }
}
