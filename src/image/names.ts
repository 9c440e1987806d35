import { Fault } from './fault.ts'

/**
 * The widest of the two clouds' rules, which our own door uses and every name in the catalog keeps: 1 to 128
 * characters, no control characters, no blanks at the ends. Each cloud's door checks its own narrower rule first.
 */
export function parseImageName(text: string, field = 'name'): string {
  if (text.length < 1 || text.length > 128 || /^\s|\s$|\p{Cc}/u.test(text)) {
    throw new Fault(
      'invalid',
      'An image name has 1 to 128 characters, no control characters, no blanks at its ends.',
      {
        subject: 'name',
        field,
      },
    )
  }
  return text
}

/** At most 256 characters, no control characters but line feeds. '' is fine. */
export function parseDescription(text: string, field = 'description'): string {
  if (text.length > 256 || /[^\P{Cc}\n]/u.test(text)) {
    throw new Fault('invalid', 'A description has at most 256 characters and no control characters.', {
      subject: 'description',
      field,
    })
  }
  return text
}

/** One name of a folder's file: no separators, no '.', '..' or hidden files. */
export function parseFileName(text: string): string {
  if (!/^[\p{L}\p{N}][\p{L}\p{N}._ -]{0,200}$/u.test(text)) {
    throw new Fault('invalid', 'Name a file of the import folder by its plain name, without a path.', {
      field: 'fileName',
    })
  }
  return text
}
