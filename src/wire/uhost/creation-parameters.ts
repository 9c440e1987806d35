import { isIP } from 'node:net'
import { accepted, bad, optional, refused, required } from './parameter.ts'
import { base64, choice, flag, integer, list, object, only, scalar, snapshotId, text } from './rules.ts'

const NO_NETWORK = 'the host’s network is the operator’s, not the caller’s'
const NO_PLACEMENT = 'hosts are placed by the operator'
const NO_CHARGE = 'nothing is charged here'
const NO_BACKUP = 'no disk is backed up by itself here; snapshots can be made of every disk'
const OLD = 'an old name that the cloud still takes'

/** One of Disks. Source: uhost.md §3.10. */
export const DISK = {
  IsBoot: required(choice('True', 'False')),
  Type: required(text(32, /^[A-Z][A-Z0-9_]*$/, 'a disk type such as CLOUD_RSSD'), 'kept and shown'),
  Size: required(integer(1, 8000), 'GB; of the boot disk at least the image’s'),
  BackupType: accepted(choice('NONE', 'SNAPSHOT', 'DATAARK'), NO_BACKUP),
  BackupMode: accepted(choice('Base', 'Ultimate', 'Custom'), NO_BACKUP),
  CustomBackup: accepted(
    object({
      Journal: accepted(integer(0, 12000, 12), NO_BACKUP),
      Hour: accepted(integer(0, 24000, 24), NO_BACKUP),
      Day: accepted(integer(0, 5000, 5), NO_BACKUP),
    }),
    NO_BACKUP,
  ),
  Encrypted: accepted(
    only(
      flag(),
      false,
      'A host’s own disk cannot be encrypted yet. Leave it out, or encrypt the host’s storage.',
    ),
    'only false is taken: a host’s own disk cannot be encrypted yet',
  ),
  KmsKeyId: accepted(text(64), 'it is for encrypted disks'),
  SnapshotId: optional(
    snapshotId(),
    'the content of a data disk; Size is then at least that of the snapshot. The boot disk’s is the image',
  ),
  CouponId: accepted(text(64), NO_CHARGE),
}

/** What CreateUHostInstance validates and has no use for. Source: uhost.md §3.10. */
export const ACCEPTED_AT_CREATION = {
  Password: accepted(base64(120), 'as LoginMode; 8 to 30 characters of at least two classes'),
  KeyPairId: refused(text(64), 'There are no key pairs here: use LoginMode ImagePasswd.'),
  Quantity: accepted(integer(0, 120), NO_CHARGE),
  GpuType: accepted(text(32), 'hosts have no GPU here'),
  GPU: accepted(
    only(integer(0, 16), 0, 'Hosts have no GPU here. Leave it out.'),
    'only 0 is taken: there are no GPUs',
  ),
  HotplugFeature: accepted(flag(), 'the size of a host does not change while it runs'),
  VPCId: accepted(text(64), NO_NETWORK),
  SubnetId: accepted(text(64), NO_NETWORK),
  PrivateIp: accepted(
    list(
      scalar('IP address', (value, field) => {
        if (isIP(value) === 0) throw bad(field, 'Give an IP address.')
        return value
      }),
      1,
    ),
    NO_NETWORK,
  ),
  SecurityGroupId: accepted(text(64), NO_NETWORK),
  SecurityMode: accepted(choice('Firewall', 'SecGroup'), NO_NETWORK),
  SecGroupId: accepted(
    list(
      object({
        Id: accepted(text(64), NO_NETWORK, true),
        Priority: accepted(integer(1, 5), NO_NETWORK),
      }),
      5,
    ),
    NO_NETWORK,
  ),
  IsolationGroup: accepted(text(64), NO_PLACEMENT),
  NetworkInterface: accepted(
    list(
      object({
        EIP: accepted(
          object({
            Bandwidth: accepted(integer(0, 100_000), NO_NETWORK),
            PayMode: accepted(choice('Traffic', 'Bandwidth', 'ShareBandwidth', 'Free'), NO_NETWORK),
            OperatorName: accepted(choice('Bgp', 'International'), NO_NETWORK),
            ShareBandwidthId: accepted(text(64), NO_NETWORK),
            CouponId: accepted(text(64), NO_CHARGE),
          }),
          NO_NETWORK,
        ),
        IPv6: accepted(object({ Address: accepted(text(64), NO_NETWORK) }), NO_NETWORK),
        CreateCernetIp: accepted(flag(), NO_NETWORK),
      }),
      10,
    ),
    NO_NETWORK,
  ),
  UserData: accepted(
    base64(16 * 1024),
    'nothing inside a guest is changed at its start; images say so by not listing CloudInit among their Features',
  ),
  AutoDataDiskInit: accepted(choice('On', 'Off'), 'a new data disk is empty; the guest formats it'),
  Features: accepted(object({ UNI: accepted(flag(), NO_NETWORK) }), NO_NETWORK),
  DeletionProtection: accepted(
    only(flag(), false, 'Hosts cannot be protected from deletion yet. Leave it out.'),
    'only false is taken: hosts cannot be protected from deletion yet',
  ),
  HostBinding: accepted(flag(), NO_PLACEMENT),
  AlarmTemplateId: accepted(integer(0, 2_147_483_647), 'there are no alarms here'),
  UDSetId: accepted(text(64), NO_PLACEMENT),
  UDHostId: accepted(text(64), NO_PLACEMENT),
  CouponId: accepted(text(64), NO_CHARGE),
  StorageType: accepted(text(32), OLD),
  TimemachineFeature: accepted(choice('Yes', 'No'), NO_BACKUP),
  NetworkId: accepted(text(64), OLD),
  HostType: accepted(text(32), OLD),
  DiskPassword: accepted(text(128), OLD),
}
