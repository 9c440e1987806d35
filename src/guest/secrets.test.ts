import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CleaningOperation } from '../image/cleaning.ts'
import { guestVolumes, link, MemoryFiles, type MemoryTree, owned } from './memory-files.fixture.ts'
import { planFor } from './plan.fixture.ts'
import { findSecretKinds } from './secret-kinds.ts'

/** Parts are joined here alone, so that nobody's scanner takes these tests for a leak. */
const pem = (kind: string, body = 'MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nMIIE\n') =>
  `-----BEGIN ${kind}PRIVATE ${'KEY'}-----\n${body}-----END ${kind}PRIVATE ${'KEY'}-----\n`
const openssh = (cipher: string) => {
  const head = Buffer.alloc(15 + 4)
  head.write('openssh-key-v1\0', 'latin1')
  head.writeUInt32BE(cipher.length, 15)
  return pem(
    'OPENSSH ',
    `${Buffer.concat([head, Buffer.from(cipher), Buffer.alloc(30, 7)]).toString('base64')}\n`,
  )
}

const CASES: readonly [string, string | Buffer, string | undefined][] = [
  ['/root/key', pem(''), 'private key'],
  [
    '/root/key',
    pem('RSA ', 'Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123\n\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n'),
    'private key (encrypted)',
  ],
  ['/root/key', pem('ENCRYPTED '), 'private key (encrypted)'],
  ['/root/.ssh/id', openssh('none'), 'SSH private key'],
  ['/root/.ssh/id', openssh('aes256-ctr'), 'SSH private key (encrypted)'],
  ['/etc/ssl/private/ssl-cert-snakeoil.key', pem(''), 'private key (snakeoil)'],
  ['/root/a', `grep -q "-----BEGIN PRIVATE ${'KEY'}-----"\n`, undefined],
  ['/root/a', `-----BEGIN PRIVATE ${'KEY'}-----\nput yours here\n`, undefined],
  ['/etc/ssl/certs/ca.crt', '-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n', undefined],
  ['/root/a.ppk', 'PuTTY-User-Key-File-2: ssh-rsa\n', 'PuTTY private key'],
  [
    '/root/.aws/credentials',
    `aws_access_key_id = ${'AKIA'}ABCDEFGHIJKLMNOP\naws_secret_access_key = ${'a'.repeat(40)}`,
    'AWS access key',
  ],
  ['/root/x', `${'AKIA'}ABCDEFGHIJKLMNOP alone`, undefined],
  [
    '/srv/sa.json',
    `{"type": "service_account", "private_key": "-----BEGIN PRIVATE ${'KEY'}-----\\nMII"}`,
    'Google Cloud service account key',
  ],
  [
    '/root/.aliyun/config.json',
    `"access_key_id": "${'LTAI'}5tAbCdEfGhIjKlMn", "access_key_secret": "${'b'.repeat(30)}"`,
    'Alibaba Cloud access key',
  ],
  ['/root/.ucloud/credential.json', `{"public_key":"x","private_key":"${'c'.repeat(40)}"}`, 'UCloud API key'],
  ['/srv/x.env', `AccountKey=${'d'.repeat(86)}==`, 'Azure storage key'],
  ['/root/.docker/config.json', '{"auths":{"r":{"auth":"dXNlcjpwYXNz"}}}', 'container registry password'],
  ['/root/.docker/config.json', '{"auths":{"r":{}}}', undefined],
  ['/root/.kube/config', 'users:\n- user:\n    client-key-data: LS0t', 'Kubernetes credentials'],
  ['/root/.netrc', 'machine x login y password z', 'password in .netrc'],
  ['/root/.git-credentials', 'https://me:secret@git.example', 'Git credentials'],
  ['/root/.npmrc', '//r.example/:_authToken=abc', 'npm token'],
  ['/root/.npmrc', '//r.example/:_authToken=$' + '{TOKEN}', undefined],
  ['/root/.pypirc', '[pypi]\nusername = a\npassword = b', 'PyPI password'],
  ['/srv/x', `token: ${'gh'}p_${'A1'.repeat(18)}`, 'GitHub token'],
  ['/srv/x', `${'gl'}pat-${'a1'.repeat(10)}`, 'GitLab token'],
  ['/srv/x', `${'xo'}xb-1234567890-abc`, 'Slack token'],
  [
    '/windows/panther/unattend.xml',
    '<AdministratorPassword><Value>cABhAHMA</Value>',
    'password of an unattended setup',
  ],
  [
    '/windows/panther/unattend.xml',
    Buffer.from('\ufeff<Password>\r\n <Value>pw</Value>', 'utf16le'),
    'password of an unattended setup',
  ],
  ['/windows/panther/unattend.xml', '<Password><Value>*SENSITIVE*DATA*DELETED*</Value>', undefined],
  ['/windows/panther/unattend.xml', '<Password><Value></Value>', undefined],
  [
    '/etc/NetworkManager/system-connections/home.nmconnection',
    '[wifi-security]\npsk=hunter22',
    'network password',
  ],
  ['/root/a.pfx', Buffer.from([0x30, 0x82, ...Buffer.alloc(100)]), 'key store (PKCS#12)'],
]

test('well-known secrets are told by their form, examples of them are not', () => {
  for (const [path, content, kind] of CASES) {
    const found = findSecretKinds(path, Buffer.from(content))
    assert.deepEqual(found, kind === undefined ? [] : [kind], `${path}: ${kind}`)
  }
})

test('no text takes long', () => {
  const pieces = [
    '://',
    'a:',
    '-----BEGIN ',
    'password>',
    ' = ',
    'secret',
    'AKIA',
    '\n',
    'a: b\n',
    'A',
    '"auth" : ',
  ]
  for (const piece of pieces) {
    const bytes = Buffer.alloc(256 << 10, piece)
    for (const [path] of CASES) findSecretKinds(path, bytes)
  }
})

const PASSWD = 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n'

function linux(tree: MemoryTree, etc: MemoryTree = {}) {
  return new MemoryFiles({ etc: { passwd: PASSWD, ...etc }, ...tree })
}

test('what is kept is searched, what goes is not', async () => {
  const volumes = guestVolumes(
    linux(
      {
        root: { '.ssh': { id_rsa: pem('RSA ') }, loop: link('/root') },
        home: { alice: owned(1000, { key: pem('') }) },
        var: { lib: { a: { b: { k: pem(''), deep: { k: pem('') } } } } },
        boot: { k: pem('') },
      },
      { ssh: { ssh_host_rsa_key: pem('RSA ') }, fstab: '/dev/vdb1 /data ext4' },
    ),
    { diskIndex: 1, files: new MemoryFiles({ keys: { k: pem('') } }) },
  )
  const told = async (operations: readonly CleaningOperation[]) =>
    (await planFor(volumes, operations)).secrets.map(({ volume, path, kind }) => `${volume} ${path}: ${kind}`)
  const always = [
    '0 /root/.ssh/id_rsa: private key',
    '0 /var/lib/a/b/k: private key',
    '1 /data/keys/k: private key',
  ]
  assert.deepEqual(await told(['homes', 'ssh-host-keys']), always)
  assert.deepEqual((await told(['logs'])).toSorted(), [
    '0 /etc/ssh/ssh_host_rsa_key: SSH host private key',
    '0 /home/alice/key: private key',
    ...always,
  ])
})

test('Windows: kept users, answer files and the first levels', async () => {
  const tree = {
    Users: { Administrator: { '.aws': { k: pem('') } }, alice: { k: pem('') } },
    Windows: { Panther: { 'unattend.xml': '<Password><Value>pw</Value>' }, 'k.pem': pem('') },
    ProgramData: { a: { b: { c: { k: pem(''), d: { k: pem('') } } } } },
    'deploy.key': pem(''),
  }
  const plan = await planFor(guestVolumes(new MemoryFiles(tree, { type: 'ntfs' })), ['profiles'])
  assert.deepEqual(plan.secrets.map(({ path }) => path).sort(), [
    '\\ProgramData\\a\\b\\c\\k',
    '\\Users\\Administrator\\.aws\\k',
    '\\Windows\\Panther\\unattend.xml',
    '\\deploy.key',
  ])
})

test('the search has an end, and says so', async () => {
  const many = Object.fromEntries(Array.from({ length: 21_000 }, (_, index) => [`f${index}`, 'x']))
  const large = Object.fromEntries(
    Array.from({ length: 300 }, (_, index) => [`f${index}`, Buffer.alloc(256 << 10, 'x')]),
  )
  const keys = Object.fromEntries(Array.from({ length: 1500 }, (_, index) => [`f${index}`, pem('')]))
  for (const opt of [many, large, keys]) {
    const files = linux({ opt })
    const plan = await planFor(guestVolumes(files), ['logs'])
    assert.match(plan.warnings.join(), /search for secrets ended/)
    assert(plan.secrets.length <= 1000)
    assert(files.readBytes < 66 << 20)
  }
  const huge = linux({ opt: { f: Buffer.alloc((256 << 10) + 1, pem('')) } })
  assert.deepEqual((await planFor(guestVolumes(huge), ['logs'])).secrets, [])
})
