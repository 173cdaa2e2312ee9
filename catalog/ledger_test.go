package catalog_test

import (
	"testing"

	"lifeboat/custody"
)

const siteA = "0123456789abcdef0123456789abcdef"

func entry(act custody.Act) custody.Entry {
	return custody.Entry{SiteID: siteA, Act: act, User: "anna", Computer: "control", HappenedAt: noon, RecordedAt: noon}
}

func TestALedgerIsKeptAndItsHeadKnown(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	head, err := cat.LedgerHead(ctx)
	equal(t, err, head, custody.Head{})
	one, err := cat.Append(ctx, entry(custody.ActJoined))
	must(t, err)
	two, err := cat.Append(ctx, entry(custody.ActPrinted))
	must(t, err)
	all, err := cat.Ledger(ctx)
	equal(t, err, all, []custody.Entry{one, two})
	head, err = cat.LedgerHead(ctx)
	equal(t, err, head, custody.HeadOf(all))
}
