import { sameName } from './names.ts'

const KEPT_BY_RULE = ['Administrator', 'Public']
const NEEDED_BY_WINDOWS = ['Default', 'Default User', 'All Users']

/** Why a directory of this name under \Users is kept; undefined if it goes. The whole name decides, A to Z without case. */
export function whyKept(name: string): string | undefined {
  if (KEPT_BY_RULE.some((kept) => sameName(kept, name))) return 'kept by rule'
  if (NEEDED_BY_WINDOWS.some((kept) => sameName(kept, name))) {
    return "Windows needs it and nobody's data is in it"
  }
  return undefined
}
