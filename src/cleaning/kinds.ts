/** The kinds of volumes that are cleaned file by file. */
export type FileKind = 'ntfs' | 'ext4' | 'vfat'

export function isFileKind(kind: string): kind is FileKind {
  return kind === 'ntfs' || kind === 'ext4' || kind === 'vfat'
}
