import { Fault } from '../../../image/fault.ts'
import { spellId } from '../../../image/ids.ts'
import { operation } from '../operation.ts'
import { accepted, optional, refused, required } from '../parameter.ts'
import { unlessFalse, unsupported } from '../refusals.ts'
import { boolean, description, imageName, integer, oneOf, text } from '../rules.ts'

const PATH_LENGTH_MAX = 4096
// The published sample is https://bucket:endpoint/object: behind the colon stands a name, where a port has digits alone.
const SAMPLE_FORM =
  /^(https?):\/\/([a-z0-9][a-z0-9-]{1,61}[a-z0-9]):((?=[^/]*[a-z])[a-z0-9][a-z0-9.-]*(?::\d{1,5})?)(\/.+)$/i

/** The address that an object path means: the bucket is the first part of the host. Throws Fault 'invalid'. */
export function addressOf(path: string): string {
  const [, scheme, bucket, endpoint, object] = SAMPLE_FORM.exec(path) ?? []
  if (scheme !== undefined) return `${scheme}://${bucket}.${endpoint}${object}`
  if (/^https?:\/\/[^/?#]+\/./i.test(path)) return path
  throw new Fault('invalid', 'It takes https://bucket:endpoint/object, or an ordinary https address.', {
    ...{ field: 'OssObjectPath', reason: 'bad-form' },
  })
}

/** Source: wuying.md §4.1.10. Which formats a file may have is found out, not said. */
export const uploadImage = operation({
  name: 'UploadImage',
  useCase: 'images.import',
  summary:
    'Makes a custom image of a disk file in an object store, which the server fetches. Answers before it is made.',
  parameters: {
    ImageName: required(imageName),
    OssObjectPath: required(
      text(PATH_LENGTH_MAX),
      'https://bucket:endpoint/object, or any http or https address, also a signed one; addresses that are not public have to be allowed in the settings',
    ),
    Description: optional(description),
    OsType: optional(oneOf('Windows', 'Linux'), 'absent: as it is found in the file'),
    ProtocolType: accepted(oneOf('ASP'), 'every image here is ASP'),
    LicenseType: accepted(
      oneOf('Auto', 'Aliyun', 'BYOL'),
      'this server gives out no licences: a system keeps the one it has',
    ),
    EnableSecurityCheck: accepted(
      boolean,
      'every file is inspected before anything opens it, whatever is said here',
    ),
    DataDiskSize: refused(
      integer(80, 500),
      'refused: an image has the disks of its file; CreateDesktops adds data disks',
      unsupported(
        'An image has the disks of its file. Leave it out, and add data disks with CreateDesktops.',
      ),
    ),
    SystemDiskSize: refused(
      integer(1, 32_768),
      'refused: the disk of an image is as large as in its file; CreateDesktops makes it larger',
      unsupported(
        'The disk of an image is as large as in its file. Leave it out, and name the size with CreateDesktops.',
      ),
    ),
    GpuCategory: refused(
      boolean,
      'false has no effect; true is refused: there are no GPUs here',
      unlessFalse('There are no GPUs here. Leave it out, or send false.'),
    ),
    GpuDriverType: refused(
      oneOf('gpu_grid9', 'gpu_grid12', 'gpu_custom'),
      'refused: nothing is installed into an image',
      unsupported('Nothing is installed into an image here. Install drivers before you upload it.'),
    ),
  },
  async run({ app, caller, region }, { ImageName, OssObjectPath, Description, OsType }) {
    const { imageId } = await app.images.import(caller, {
      regionId: region.id,
      name: ImageName,
      description: Description,
      kind: 'custom',
      osType: OsType,
      from: { is: 'url', source: { url: addressOf(OssObjectPath) } },
    })
    return { ImageId: spellId('image', imageId, 'wuying') }
  },
})
