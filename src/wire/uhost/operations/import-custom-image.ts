import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { optional, required, withDefault } from '../parameter.ts'
import { choice, flag, name, only, text, url } from '../rules.ts'

const FORMATS = { RAW: 'raw', VHD: 'vhd', VMDK: 'vmdk', qcow2: 'qcow2' } as const

/** The cloud's word for what it does not know. */
const isOther = (word: string) => word.toLowerCase() === 'other'

/** Source: uhost.md §3.4. The image is listed at once as Making; a file that is refused makes it Unavailable. */
export const importCustomImage = defineOperation({
  name: 'ImportCustomImage',
  useCase: 'images.import',
  summary: 'Makes a custom image of a disk file at an address outside, which the server fetches.',
  parameters: {
    ...PLACE,
    ImageName: required(name()),
    UFileUrl: required(
      url(),
      'http or https, with the query of a private URL if it has one; addresses that are not public have to be allowed in the settings',
    ),
    OsType: required(
      text(64),
      'a name with Windows in it is Windows, Other is as it is found in the file, every other name is Linux',
    ),
    OsName: required(text(128), 'kept and shown; Other: as it is found in the file'),
    Format: required(choice('RAW', 'VHD', 'VMDK', 'qcow2'), 'a file found to be in another one is refused'),
    Auth: required(only(flag(), true, 'The cloud asks for your consent: send Auth=true.')),
    Tag: withDefault(name(), 'Default'),
    ImageDescription: optional(text(255)),
  },
  words: { file: 'UFileUrl', name: 'ImageName', description: 'ImageDescription' },
  async run({ app, caller }, given) {
    const { OsType, OsName } = given
    const { imageId } = await app.images.import(caller, {
      ...placeOf(given),
      name: given.ImageName,
      description: given.ImageDescription,
      tag: given.Tag,
      kind: 'custom',
      osType: isOther(OsType) ? undefined : /windows/i.test(OsType) ? 'Windows' : 'Linux',
      osName: isOther(OsName) ? undefined : OsName,
      format: FORMATS[given.Format],
      from: { is: 'url', source: { url: given.UFileUrl } },
    })
    return { ImageId: spellId('image', imageId, 'uhost') }
  },
})
