package lifeboat

import "strings"

// trialMark begins the id of every trial's site, and of no other: it is "trial"
// in ASCII. The id is sealed in each drive and stands in each entry of the
// ledger, so that none of a trial's can be taken for a real one.
const trialMark = "747269616c"

// IsTrial says whether the site of that id is a trial: one that may be told the
// time, and whose drives no real control machine takes.
func IsTrial(siteID string) bool { return strings.HasPrefix(siteID, trialMark) }

// AsTrial is the id of a site, 32 hex digits, as that of a trial.
func AsTrial(siteID string) string { return trialMark + siteID[len(trialMark):] }
