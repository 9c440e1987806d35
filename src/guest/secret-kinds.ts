/** A well-known form of a secret. */
interface Form {
  readonly kind: string
  /** Of the file's path in lower case, with slashes. */
  readonly at?: RegExp
  /** All of them are somewhere in the text. None may need more than linear time: the text is anybody's. */
  readonly has: readonly RegExp[]
  /** A text that is only an example of it. */
  readonly not?: RegExp
}

const FORMS: readonly Form[] = [
  { kind: 'PuTTY private key', has: [/^PuTTY-User-Key-File-[123]:/] },
  {
    kind: 'Google Cloud service account key',
    has: [/"type"\s{0,9}:\s{0,9}"service_account"/, /"private_key"\s{0,9}:\s{0,9}"-----BEGIN/],
  },
  {
    kind: 'AWS access key',
    has: [/\b(AKIA|ASIA)[A-Z0-9]{16}\b/, /secret_?access_?key["']?\s{0,9}[=:]\s{0,9}["']?[A-Za-z0-9/+]{40}/i],
    not: /AKIAIOSFODNN7EXAMPLE/,
  },
  {
    kind: 'Alibaba Cloud access key',
    has: [/\bLTAI[A-Za-z0-9]{12,26}\b/, /secret["']?\s{0,9}[=:]\s{0,9}["']?[A-Za-z0-9]{30}/i],
  },
  {
    kind: 'Tencent Cloud access key',
    has: [/\bAKID[A-Za-z0-9]{13,40}\b/, /secret_?key["']?\s{0,9}[=:]\s{0,9}["']?[A-Za-z0-9]{32}/i],
  },
  {
    kind: 'UCloud API key',
    at: /(^|\/)\.?ucloud(\/|$)|ucloud[^/]{0,40}\.(json|ya?ml|ini|env|conf)$/,
    has: [/private_?key["']?\s{0,9}[=:]\s{0,9}["']?[A-Za-z0-9+/=-]{20}/i],
  },
  { kind: 'Azure storage key', has: [/AccountKey=[A-Za-z0-9+/]{80,88}={0,2}/] },
  {
    kind: 'Azure credentials',
    at: /(^|\/)\.azure\/[^/]{1,80}\.json$/,
    has: [/"(refresh_?token|secret|client_secret|servicePrincipalKey)"\s{0,9}:\s{0,9}"[^"]/i],
  },
  {
    kind: 'container registry password',
    at: /(^|\/)(config\.json|auth\.json|\.dockercfg|\.dockerconfigjson)$/,
    has: [/"(auth|identitytoken)"\s{0,9}:\s{0,9}"[A-Za-z0-9+/=._-]{4}/],
  },
  {
    kind: 'Kubernetes credentials',
    at: /(^|\/)\.kube\/config$|\/kubernetes\/[^/]{1,80}\.conf$|\/k3s\.yaml$|kubeconfig[^/]{0,40}$/,
    has: [/\b(client-key-data|token|password)["']?:\s{0,9}["']?[A-Za-z0-9]/],
  },
  { kind: 'password in .netrc', at: /(^|\/)[._]netrc$/, has: [/\bpassword\s{1,9}\S/] },
  {
    kind: 'Git credentials',
    at: /(^|\/)(\.git-credentials|git\/credentials)$/,
    has: [/:\/\/[^/\s:@]{0,200}:[^/\s@]{1,400}@/],
  },
  { kind: 'npm token', at: /npmrc$/, has: [/(_authToken|_password|_auth)\s{0,9}=\s{0,9}[^\s$]/] },
  { kind: 'PyPI password', at: /(^|\/)\.pypirc$/, has: [/^\s{0,9}password\s{0,9}[:=]\s{0,9}\S/m] },
  {
    kind: 'database password',
    at: /(^|\/)\.pgpass$/,
    has: [/^[^#\s:]{1,200}:[^:\n]{0,9}:[^:\n]{0,200}:[^:\n]{0,200}:\S/m],
  },
  {
    kind: 'database password',
    at: /(^|\/)(\.my\.cnf|debian\.cnf)$/,
    has: [/^\s{0,9}password\s{0,9}=\s{0,9}\S/m],
  },
  { kind: 'GitHub token', has: [/\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60})/] },
  { kind: 'GitLab token', has: [/\bgl(pat|rt|dt|cbt)-[A-Za-z0-9_-]{20}/] },
  { kind: 'Slack token', has: [/\bxox[abprs]-[0-9A-Za-z]{8}|hooks\.slack\.com\/services\/T[A-Z0-9]{6}/] },
  { kind: 'HashiCorp Vault token', at: /(^|\/)\.vault-token$/, has: [/^\S{16}/] },
  {
    kind: 'object storage key',
    at: /(^|\/)(\.s3cfg|\.boto|\.ossutilconfig|rclone\.conf)$/,
    has: [/secret[a-z_]{0,20}\s{0,9}=\s{0,9}\S/i],
  },
  {
    kind: 'WireGuard private key',
    at: /\/wireguard\/[^/]{1,80}\.conf$|\.netdev$/,
    has: [/^\s{0,9}PrivateKey\s{0,9}=\s{0,9}[A-Za-z0-9+/]{43}=/m],
  },
  {
    kind: 'network password',
    at: /\/system-connections\/|wpa_supplicant[^/]{0,60}\.conf$|\/iwd\//,
    has: [/^\s{0,9}(psk|password|wep-key0|Passphrase)\s{0,9}=\s{0,9}\S/m],
  },
  {
    kind: 'password of an unattended setup',
    at: /(unattend|autounattend|unattended|sysprep)[^/]{0,20}\.xml$/,
    has: [/password>\s{0,200}<value>(?!\s{0,9}(<|\*SENSITIVE))/i],
  },
  {
    kind: 'password of an unattended setup',
    at: /(^|\/)(sysprep|unattend|winnt)\.(inf|txt|sif)$/,
    has: [/^\s{0,9}AdminPassword\s{0,9}=\s{0,9}(?!["*\s]{0,3}$)\S/im],
  },
]

const KEY = /^-----BEGIN ((?:RSA|DSA|EC|OPENSSH|ENCRYPTED|ANY|PGP) )?PRIVATE KEY(?: BLOCK)?-----\r?\n/m
/** After headers and a blank line, as old keys and those of PGP have them. */
const KEY_BODY = /^(?:[A-Za-z0-9-]{1,40}: [^\n]{0,200}\r?\n){0,9}\r?\n?([A-Za-z0-9+/=]{20,}\s)/

/** Kinds of secrets in a file. `path`: for forms that are told by their place. Nothing of a secret is in what is answered. */
export function findSecretKinds(path: string, bytes: Buffer): readonly string[] {
  const at = path.replaceAll('\\', '/').toLowerCase()
  const text = decode(bytes)
  const kinds = new Set<string>()
  const key = keyKind(at, text)
  if (key !== undefined) kinds.add(key)
  if (/\.(p12|pfx)$/.test(at) && bytes.length > 64 && bytes[0] === 0x30 && (bytes[1] ?? 0) >= 0x80) {
    kinds.add('key store (PKCS#12)')
  }
  for (const form of FORMS) {
    const isIt = (form.at?.test(at) ?? true) && form.has.every((one) => one.test(text))
    if (isIt && form.not?.test(text) !== true) kinds.add(form.kind)
  }
  return [...kinds]
}

function keyKind(at: string, text: string): string | undefined {
  const found = KEY.exec(text)
  if (found === null) return undefined
  const body = text.slice(found.index + found[0].length)
  // Scripts and manuals name the first line alone.
  const [, line] = KEY_BODY.exec(body.slice(0, 4096)) ?? []
  if (line === undefined) return undefined
  if (at.endsWith('/etc/ssl/private/ssl-cert-snakeoil.key')) return 'private key (snakeoil)'
  if (/\/ssh_host_[^/]{1,60}_key$/.test(at)) return 'SSH host private key'
  const name = found[1]?.trim() ?? ''
  if (name === 'PGP') return 'PGP private key'
  const isSsh = name === 'OPENSSH'
  const isEncrypted = isSsh
    ? !Buffer.from(line, 'base64').subarray(15, 23).equals(Buffer.from('\0\0\0\x04none'))
    : name === 'ENCRYPTED' || /^Proc-Type: 4,ENCRYPTED/.test(body)
  return `${isSsh ? 'SSH ' : ''}private key${isEncrypted ? ' (encrypted)' : ''}`
}

function decode(bytes: Buffer): string {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return bytes.toString('utf16le', 2)
  return bytes.toString('latin1')
}
