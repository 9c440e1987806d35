import { spellId } from '../../image/ids.ts'
import type { Machine, MachineDiskRecord, MachineState } from '../../image/machine.ts'
import { gibCeil, MIB } from '../../image/region.ts'
import { toldOf } from './told.ts'

/**
 * One host as DescribeUHostInstance shows it, every documented field, in the order of uhost.md §3.11. What this
 * service has no notion of is the type's empty value.
 */
export function instanceRow(machine: Machine) {
  const told = toldOf(machine.details)
  return {
    Zone: machine.zone,
    UHostId: spellId('machine', machine.id, 'uhost'),
    UHostType: told.UHostType,
    MachineType: machine.typeName,
    CpuPlatform: told.MinimalCpuPlatform,
    UHostFamily: told.UHostFamily,
    StorageType: '',
    // The cloud keeps this name for the system disk; the image is BasicImageId.
    ImageId: machine.disks[0] === undefined ? '' : spellId('disk', machine.disks[0].id, 'uhost'),
    BasicImageId: spellId('image', machine.imageId, 'uhost'),
    BasicImageName: machine.imageName,
    Tag: machine.tag,
    Remark: '',
    Name: machine.name,
    State: stateWord(machine.state),
    CreateTime: Math.floor(machine.createdAtMs / 1000),
    ExpireTime: 0,
    ChargeType: told.ChargeType,
    CPU: machine.cpuCount,
    Memory: Math.round(machine.memoryBytes / MIB),
    GPU: 0,
    HotPlugMaxCpu: machine.cpuCount,
    TotalDiskSpace: machine.disks.slice(1).reduce((sum, disk) => sum + gibCeil(disk.sizeBytes), 0),
    AutoRenew: 'No',
    DiskSet: machine.disks.map((disk) => diskRow(disk, machine)),
    IPSet: [],
    NetCapability: told.NetCapability,
    NetworkState: 'NotConnected',
    TimemachineFeature: 'no',
    SubnetType: '',
    OsName: machine.osName,
    OsType: machine.osType,
    HostType: '',
    LifeCycle: '',
    GpuType: '',
    BootDiskState: machine.state === 'creating' ? 'Initializing' : 'Normal',
    IsolationGroup: '',
    RdmaClusterId: '',
    RestrictMode: '',
    HotplugFeature: false,
    CloudInitFeature: false,
    IPv6Feature: false,
    HpcFeature: false,
    EpcInstance: false,
    SecGroupInstance: false,
    HiddenKvm: false,
    NetFeatureTag: 'Firewall',
    KeyPair: {},
    UDHostAttribute: {},
    SpotAttribute: {},
  }
}

function diskRow(disk: MachineDiskRecord, machine: Machine) {
  const isBoot = disk.index === 0
  // A machine made through the other cloud's door has that cloud's word for its disks.
  const type = /^(LOCAL|CLOUD)_/.test(disk.category) ? disk.category : 'CLOUD_RSSD'
  const drive = machine.osType === 'Linux' ? `/dev/vd${String.fromCharCode(97 + disk.index)}` : ''
  return {
    DiskType: type,
    IsBoot: isBoot ? 'True' : 'False',
    Encrypted: 'false',
    Type: isBoot ? 'Boot' : type.startsWith('LOCAL_') ? 'Data' : 'Udisk',
    DiskId: spellId('disk', disk.id, 'uhost'),
    Name: '',
    Drive: disk.index < 26 ? drive : '',
    Size: gibCeil(disk.sizeBytes),
    BackupType: 'NONE',
  }
}

/** Source: uhost.md §4. 'Install Fail' has a space; the empty word is the cloud's for unknown. */
function stateWord(state: MachineState): string {
  switch (state) {
    case 'creating':
      return 'Initializing'
    case 'starting':
      return 'Starting'
    case 'running':
      return 'Running'
    case 'stopping':
      return 'Stopping'
    case 'stopped':
      return 'Stopped'
    case 'failed':
      return 'Install Fail'
    case 'deleting':
      return ''
    default:
      return state satisfies never
  }
}
