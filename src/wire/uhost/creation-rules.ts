import type { SnapshotId } from '../../image/ids.ts'
import type { DISK } from './creation-parameters.ts'
import { bad, missing, type Parsed } from './parameter.ts'

export interface DiskPlan {
  /** No size: as large as the image's. */
  readonly boot: { readonly sizeGib: number | undefined; readonly type: string }
  readonly data: readonly {
    readonly sizeGib: number
    readonly type: string
    /** Absent: empty. */
    readonly snapshotId?: SnapshotId
  }[]
}

/** The type that an instance without a word for it shows. */
const OLD_FORM_TYPE = 'LOCAL_NORMAL'

/** The disks in the order in which the guest sees them: the boot disk first. Throws Fault 'invalid' field 'Disks'. */
export function diskPlan(
  disks: readonly Parsed<typeof DISK>[] | undefined,
  bootDiskSpace: number | undefined,
  diskSpace: number | undefined,
): DiskPlan {
  if (disks === undefined || disks.length === 0) {
    // 0 is how old callers say "as the image is" and "no data disk".
    return {
      boot: { sizeGib: bootDiskSpace || undefined, type: OLD_FORM_TYPE },
      data: diskSpace ? [{ sizeGib: diskSpace, type: OLD_FORM_TYPE }] : [],
    }
  }
  if (bootDiskSpace) throw bad('BootDiskSpace', 'Say the size in Disks alone.')
  if (diskSpace) throw bad('DiskSpace', 'Say the size in Disks alone.')
  const boots = disks.filter((disk) => disk.IsBoot === 'True')
  const [boot] = boots
  if (boot === undefined || boots.length > 1) {
    throw bad('Disks', `Exactly one disk has IsBoot True; ${boots.length} have it.`)
  }
  if (boot.SnapshotId !== undefined) {
    throw bad('Disks', 'The boot disk is made from ImageId. Give SnapshotId with data disks alone.')
  }
  const data = disks.filter((disk) => disk !== boot)
  return {
    boot: { sizeGib: boot.Size, type: boot.Type },
    data: data.map(({ Size, Type, SnapshotId }) => ({
      sizeGib: Size,
      type: Type,
      ...(SnapshotId !== undefined && { snapshotId: SnapshotId }),
    })),
  }
}

/**
 * The rules between the parameters of the login. Windows asks for three classes of characters, but which
 * system an image holds is not known here, so two are asked of all. Source: uhost.md §3.10.
 */
export function refuseBadLogin(mode: string | undefined, password: Buffer | undefined): void {
  if (mode === 'Password' && password === undefined) throw missing('Password')
  // One that is given was refused before: there are no key pairs.
  if (mode === 'KeyPair') throw missing('KeyPairId')
  if (password === undefined) return
  const clear = password.toString('utf8')
  const length = [...clear].length
  const classes = [/[a-z]/, /[A-Z]/, /[0-9]/, /[^a-zA-Z0-9]/].filter((each) => each.test(clear)).length
  if (length < 8 || length > 30) throw bad('Password', 'Give 8 to 30 characters, in base64.')
  if (classes < 2) {
    throw bad('Password', 'Mix at least two of lower-case letters, capitals, digits and other signs.')
  }
}
