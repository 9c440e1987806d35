import assert from 'node:assert/strict'

export interface SettingRow {
  /** The place in the file: `host.driver` is the key `driver` under `host`. */
  readonly key: string
  readonly takes: string
  readonly default: string
  readonly meaning: string
  /** The environment variable, where the setting may be given so. */
  readonly environment: string | undefined
  /** The flag of `calotype serve`, with its dashes. */
  readonly flag: string | undefined
  readonly isInFile: boolean
}

type Scope = 'anywhere' | 'file' | 'environment'
const words = (key: string) =>
  key.replaceAll('.', '-').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
const row = (key: string, takes: string, fallback: string, meaning: string, scope: Scope = 'anywhere') => ({
  key,
  takes,
  default: fallback,
  meaning,
  environment: scope === 'file' ? undefined : `CALOTYPE_${words(key).toUpperCase().replaceAll('-', '_')}`,
  flag: scope === 'anywhere' ? `--${words(key)}` : undefined,
  isInFile: scope !== 'environment',
})

/** Every setting there is, in the order of docs/settings.md, whose table is compared with this one. */
export const SETTINGS: readonly SettingRow[] = [
  row(
    'data',
    'a directory',
    'none, required',
    'Where everything is kept: catalog, objects, machines, the first access key.',
  ),
  row(
    'listen',
    'HOST:PORT, an IPv6 host in brackets as [::1]:8370, port 0 to 65535',
    '127.0.0.1:8370',
    'Where the server answers. Port 0 takes a free one.',
  ),
  row(
    'regions',
    'a map of region id to {name, zones, objects, copyBytesPerSecond}',
    'cn-hangzhou, cn-shanghai, cn-bj2, hk',
    'The regions, each with its own objects. See below.',
    'file',
  ),
  row(
    'defaultRegion',
    'the id of one of the regions',
    'cn-bj2, else the first region',
    'The region that UHost marks as default, with its first zone.',
  ),
  row(
    'host.driver',
    'qemu, files or simulated',
    'qemu',
    'What runs the machines: QEMU; disk files that are never started; a pretended hypervisor for tests.',
  ),
  row(
    'host.acceleration',
    'auto, kvm or tcg',
    'auto',
    'How guests are run. `auto` tries KVM with a throw-away guest before it trusts it.',
  ),
  row(
    'host.graceSeconds',
    'a whole number from 0 to 600',
    '10',
    'How long a guest may take to shut down before its plug is pulled.',
  ),
  row(
    'accessKey.id',
    '3 to 128 letters, digits and . _ + / = -',
    'made at first start',
    'The id of the first access key (AccessKeyId, PublicKey). Goes with the secret.',
    'environment',
  ),
  row(
    'accessKey.secret',
    '16 to 256 printable ASCII characters without spaces',
    'made at first start',
    'The secret of the first access key (AccessKeySecret, PrivateKey).',
    'environment',
  ),
  row(
    'capture.workers',
    'a whole number from 1 to 64',
    'the number of cores, up to 4',
    'Threads that read, hash and pack during a capture.',
  ),
  row(
    'encryption',
    'on or off',
    'on',
    'Whether new chunks are encrypted. What is stored already stays as it is and is read either way.',
  ),
  row(
    'gc.everyHours',
    'off, or a whole number from 1 to 8760',
    '24',
    'How often garbage is collected in each region. `calotype store gc` does it at any time.',
  ),
  row(
    'gc.graceHours',
    'a whole number from 0 to 8760',
    '24',
    'How long what nobody needs any more is kept before a collection removes it.',
  ),
  row(
    'scrub.everyDays',
    'off, or a whole number from 1 to 365',
    '7',
    'How often everything stored is read again and checked, and mended from other regions. `calotype store scrub` does it at any time.',
  ),
  row(
    'scrub.bytesPerSecond',
    'a whole number from 1048576 to 1000000000000',
    '50000000',
    'How fast a scrub reads. 50 MB/s leave most of a disk to others and read 30 TB in a week.',
  ),
  row(
    'cleaning.secrets',
    'report or refuse',
    'report',
    'What becomes of an image when cleaning finds a private key or a token in what it keeps. `refuse` holds for everybody; with `report` a request may still ask for it.',
  ),
  row(
    'cleaning.kernel',
    'a directory',
    "the system's own",
    'Where the kernel is that cleaning changes Linux file systems with: a folder laid out as / is, with boot/vmlinuz-VERSION and lib/modules/VERSION.',
  ),
  row(
    'clockSkewMinutes',
    'a whole number from 1 to 1440',
    '15',
    "How far a signed request's clock may be from ours, either way. Its nonce is remembered for as long as it is good.",
  ),
  row(
    'bodyLimitBytes',
    'a whole number from 65536 to 67108864',
    '1048576',
    'The largest request body that is read.',
  ),
  row(
    'logLevel',
    'trace, debug, info, warn, error, fatal or silent',
    'info',
    'The least important message that is logged.',
  ),
  row(
    'imagesPerRegionMax',
    'a whole number from 1 to 1000000',
    '1000',
    'How many custom images one project may have in one region.',
  ),
  row(
    'snapshotsPerRegionMax',
    'a whole number from 1 to 1000000',
    '10000',
    'How many snapshots one project may have in one region.',
  ),
  row(
    'importDirectory',
    'a directory',
    'DATA/imports',
    'Files in it can be imported as images, by their plain names.',
  ),
  row(
    'imports.allow',
    'host names, HOST:PORT, addresses and networks (10.0.0.0/8), with commas between them',
    'none',
    'What imports may be fetched from although it is not a public address. See docs/imports.md.',
  ),
  row(
    'imports.diskBytesMax',
    'a whole number from 1048576 to 70368744177664',
    '2199023255552',
    'How large a file that is brought in, and a disk in it, may be, in bytes.',
  ),
  row(
    'imports.ratioMax',
    'a whole number from 2 to 1000000',
    '2000',
    'How many times larger than a packed file (.gz, .xz, .zst) what is in it may be, once that is over 64 MiB.',
  ),
  row(
    'imports.fetchHours',
    'a whole number from 1 to 720',
    '24',
    'How long fetching a file from an address may take, with all tries.',
  ),
  row(
    'imports.uploadHours',
    'a whole number from 1 to 720',
    '48',
    'How long an upload may be silent before what came of it is taken away.',
  ),
  row(
    'imports.uploadsMax',
    'a whole number from 1 to 10000',
    '200',
    'How many unfinished uploads one project may have.',
  ),
  row(
    'copies.atOnce',
    'a whole number from 1 to 64',
    '4',
    'How many copies move bytes at once; the others wait for their turn. See docs/copies.md.',
  ),
  row(
    'copies.attempts',
    'a whole number from 1 to 1000',
    '60',
    'How often in a row a copy is tried that does not get on, as a store or a peer does not answer: after 1, 2, 4 … 60 s each, so for about an hour.',
  ),
  row(
    'copies.repeatMinutes',
    'off, or a whole number from 1 to 1440',
    '10',
    'How long the same copy, asked for again through the door of a cloud while the first still runs, is answered as the first was.',
  ),
  row(
    'copies.acrossProjects',
    'reference or rekey',
    'reference',
    "What a copy into another project is when nobody says: `reference` keeps the keys of the image's project, `rekey` writes it anew with those of the target.",
  ),
  row(
    'copies.cacheBytes',
    'a whole number from 0 to 1000000000000',
    '2147483648',
    'How much of what copies to several targets read from a bucket or a peer is kept in DATA for the next target.',
  ),
  row(
    'copies.pausedDays',
    'off, or a whole number from 1 to 3650',
    '30',
    'How long a copy may be paused, with its room and what it holds of its source, before it is cancelled.',
  ),
  row(
    'peering.listen',
    'off, or HOST:PORT, an IPv6 host in brackets as [::1]:8371, port 0 to 65535',
    'off',
    'Where other installations may read images, over TLS with certificates on both sides. See docs/copies.md.',
  ),
  row(
    'peers',
    'a map of name to {fingerprint, url, projects, regions}',
    'none',
    'The other installations: those we read from (`url`), and what they may read of ours (`projects`, `regions`). See below.',
    'file',
  ),
  row('exports.linkHours', 'a whole number from 1 to 720', '24', 'How long the link of a download is good.'),
  row(
    'bundles.signers',
    'Ed25519 public keys of 64 hex digits, with commas between them',
    'none',
    'The installations whose bundles are believed, beside this one. An import may name one more.',
  ),
  row(
    'uhostReplayWindowSeconds',
    'off, or a whole number from 1 to 86400',
    'off',
    'If a number: a UHost request needs the header `U-Timestamp-Ms`, at most so far from our clock. See below.',
  ),
]

/** The flag's name in camel case without dashes, as commander gives it: `hostDriver` for `--host-driver`. */
export function attributeOf({ flag }: SettingRow): string | undefined {
  return flag?.slice(2).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

export function getSetting(key: string): SettingRow {
  const setting = SETTINGS.find((each) => each.key === key)
  assert(setting !== undefined, `no setting ${key}`)
  return setting
}
