import type { Rows } from '../catalog/contract.ts'
import { PLAIN_CONFIG } from '../image/config.ts'
import { Fault } from '../image/fault.ts'
import type { ImageId, ProjectId, TaskId } from '../image/ids.ts'
import type { CHECKSUM_ALGORITHMS } from '../image/imported.ts'
import { parseDescription, parseFileName, parseImageName } from '../image/names.ts'
import { checkImportFile } from '../tasks/import-image.ts'
import type { ImportInput } from '../tasks/import-sources.ts'
import { refuseWhenUsedUp } from '../tasks/quota.ts'
import type { App } from './contract.ts'
import type { Guard } from './guard.ts'
import { insertImage, parseWord } from './new-image.ts'
import type { Parts } from './parts.ts'
import type { ImportFrom, ImportWish } from './transfer-contract.ts'

const HEX_LENGTHS: Readonly<Record<(typeof CHECKSUM_ALGORITHMS)[number], number>> = {
  ...{ sha256: 64, sha512: 128, sha1: 40, md5: 32 },
}

/** What can be told of a wish without looking anywhere. Faults 'invalid' with the field. */
export function checkWish({ name, description, tag, osName, checksum, signer }: ImportWish): void {
  parseImageName(name)
  parseDescription(description ?? '')
  parseWord(tag ?? '', 'tag')
  parseWord(osName ?? '', 'osName')
  if (
    checksum !== undefined &&
    !new RegExp(`^[0-9a-f]{${HEX_LENGTHS[checksum.algorithm]}}$`).test(checksum.hex)
  ) {
    const digits = HEX_LENGTHS[checksum.algorithm]
    throw new Fault('invalid', `A ${checksum.algorithm} is ${digits} lower-case hex digits.`, {
      field: 'checksum',
    })
  }
  if (signer !== undefined && !/^[0-9a-f]{64}$/.test(signer)) {
    throw new Fault('invalid', "'signer' takes the 64 hex digits of an Ed25519 key.", { field: 'signer' })
  }
}

/** Where the right to an import has to come from: every project sees a base image, so that is no single project's to give. */
export const importTarget = (wish: ImportWish, resource: string) => ({
  ...{ regionId: wish.regionId, projectId: wish.projectId, resource },
  reach: wish.kind === 'base' ? ('account' as const) : ('project' as const),
})

/** Lists the image and begins its task, inside a transaction: `kick` it afterwards. Faults as of `insertImage`. */
export async function addImport(
  parts: Parts,
  rows: Rows,
  wish: ImportWish,
  from: ImportInput['from'],
  about: { readonly projectId: ProjectId; readonly sizeBytes: number; readonly reservedBytes: number },
): Promise<{ readonly imageId: ImageId; readonly taskId: TaskId }> {
  const { regionId, kind, name, description, tag, osType, osName, firmware, bus } = wish
  const { projectId, sizeBytes, reservedBytes } = about
  const imageId = await insertImage(parts, rows, {
    ...{ projectId, regionId, kind, name, reservedBytes },
    origin: 'import',
    ...(description === undefined ? {} : { description }),
    ...(tag === undefined ? {} : { tag }),
    osType: osType ?? 'Linux',
    osName: osName ?? '',
    // Until the file was looked at, its size is what is known of the disk.
    disks: [{ index: 0, sizeBytes, bus: bus ?? 'virtio-blk' }],
    config: { ...PLAIN_CONFIG, firmware: firmware ?? PLAIN_CONFIG.firmware },
  })
  const input: ImportInput = {
    ...{ imageId, kind, from },
    ...{ declared: wish.format, checksum: wish.checksum, signer: wish.signer },
    said: { osType, osName, firmware, bus },
  }
  const task = { kind: 'import-image', projectId, regionId, imageId, input, totalBytes: sizeBytes } as const
  const taskId = await parts.runner.add(rows, task)
  await rows.updateTable('image').set({ taskId }).where('id', '=', imageId).execute()
  return { imageId, taskId }
}

/** Images from files: of the import folder, or from an address. */
export function createImports(parts: Parts, guard: Guard): Pick<App['images'], 'import'> {
  const { catalog, runner, transfers } = parts

  async function look(from: ImportFrom): Promise<{ from: ImportInput['from']; sizeBytes: number }> {
    if (from.is === 'file') {
      const fileName = parseFileName(from.fileName)
      return {
        from: { is: 'file', fileName },
        sizeBytes: await checkImportFile(parts.importDirectory, fileName),
      }
    }
    const shown = await transfers.fetcher.check(from.source)
    return { from: { is: 'url', shown, sealed: transfers.seal.seal(from.source) }, sizeBytes: 0 }
  }

  return {
    import(caller, input) {
      const { from: asked, ...wish } = input
      // An address may hold a password: the audit record names its kind alone.
      const resource = asked.is === 'file' ? `file/${asked.fileName}` : 'url/*'
      return guard.change(caller, 'images.import', importTarget(wish, resource), async (projectId) => {
        checkWish(wish)
        const { from, sizeBytes } = await look(asked)
        const made = await catalog.transaction(async (rows) => {
          await refuseWhenUsedUp(rows, projectId)
          return addImport(parts, rows, wish, from, { projectId, sizeBytes, reservedBytes: 0 })
        })
        runner.kick(made.taskId)
        return made
      })
    },
  }
}
