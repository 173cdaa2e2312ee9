package runbook

import (
	"strings"
	"testing"
)

func meaningOfText(t *testing.T, text string) string {
	t.Helper()
	b, err := Parse("x", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return Meaning(b)
}

// What drills proved is known by this hash: if it changes, every runbook of every
// site has to be rehearsed anew.
func TestTheMeaningOfATextStaysTheSameOverVersions(t *testing.T) {
	b, _ := wholeBook(t)
	const want = "74f7b43cc2872c9f342d6e90854bed81a88f2c5f2b26211a4c29f3444fbcd5cd"
	if got := Meaning(b); got != want {
		t.Errorf("the meaning of testdata/good/whole.yaml is %s, and was %s", got, want)
	}
}

func TestWhatPeopleReadIsNoPartOfTheMeaning(t *testing.T) {
	b, text := wholeBook(t)
	for _, change := range [][2]string{
		{"# Every field", "# No field"},
		{"head-office", "other-office"},
		{"+49 170 1234567", "+49 170 7654321"},
		{"name: Ben", "name: Bea"},
		{"Bring the head office back", "Whatever"},
		{"period: 90d", "period: 30d"},
		{"travel: 45m", "travel: 3h"},
		{"confirm: Declare the disaster", "confirm: \"Say it: we are lost\""},
		{"who: Eva Lindt", "who: Ben"},
		{"message: The shop is back", "message: Hurrah"},
		{"tiers: [1, 2]", "tiers: [2, 1]"},
		{"shop: {machines: [db, web]}", "shop: {machines: [web, db]}"},
		{"objectives: {rto: 4h, rpo: 24h}", "objectives:\n  rpo: 1d\n  rto: 240m"},
		{"memory: 48 GiB", "memory: 49152 MiB"},
		{"    tier: 1\n    host: rescue\n", "    host: rescue\n    tier: 1\n"},
		{"  spare:\n", "  spare: {tier: 1, point: latest, on_failure: stop}\n"},
		{"- http: /health", "- http: {path: /health, port: 80, status: 200}"},
		{"dmz: {recover", "dmz: {source: dmz, recover"},
		{"- tcp: {port: 22}", "- {tcp: 22, within: 5m, passes: 1}"},
		{"after: [web, boot-files]", "after: [boot-files, web]"},
		{"when: always", "# when: always"},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if changed == string(text) {
			t.Fatalf("%q is not in the file", change[0])
		}
		if meaningOfText(t, changed) != Meaning(b) {
			t.Errorf("%q in place of %q changes the meaning", change[1], change[0])
		}
	}
}

func TestWhatIsExecutedIsPartOfTheMeaning(t *testing.T) {
	b, text := wholeBook(t)
	seen := map[string]string{Meaning(b): "the file"}
	for _, change := range [][2]string{
		{"rto: 4h, rpo: 24h", "rto: 5h, rpo: 24h"},
		{"1: {rto: 1h30m}", "1: {rto: 1h}"},
		{"boots: 3", "boots: 4"},
		{"memory: 48 GiB", "memory: 32 GiB"},
		{"\"*\":\n", "second:\n"},
		{"vmbr0", "vmbr1"},
		{"recover: nat", "# recover: nat"},
		{"8080:web:80", "8081:web:80"},
		{"vpn: 51820", "vpn: 51821"},
		{"mail.example: 10.0.0.5", "mail.example: 10.0.0.6"},
		{"bridge: br1", "bridge: br2"},
		{"skew: allow", "skew: refuse"},
		{"shop: {machines: [db, web]}", "shop: {machines: [db, web, spare]}"},
		{"0123456789abcdef0123456789abcdef", "1123456789abcdef0123456789abcdef"},
		{"point: latest-verified", "point: latest"},
		{"    tier: 1\n    host", "    tier: 3\n    host"},
		{"host: rescue", "host: other"},
		{"memory: 8 GiB", "memory: 4 GiB"},
		{"cpus: 4", "cpus: 5"},
		{"office: 10.0.0.7", "office: 10.0.0.8"},
		{"rto: 30m", "rto: 31m"},
		{"tcp: 5432", "tcp: 5433"},
		{"within: 3m", "within: 4m"},
		{"passes: 3", "passes: 2"},
		{"select 1", "select 2"},
		{"on_failure: older-point\n    settle", "on_failure: stop\n    settle"},
		{"settle: true", "settle: false"},
		{"after: db\n", "# after\n"},
		{"status: 301", "status: 302"},
		{"body: Moved", "body: Gone"},
		{"when: recover", "when: always"},
		{"systemctl, restart", "systemctl, stop"},
		{"systemctl, is-active", "systemctl, status"},
		{"limit: 2m", "limit: 3m"},
		{"LANG: C", "LANG: D"},
		{"essential: false", "essential: true"},
		{"retries: 2", "retries: 3"},
		{"repeat: safe", "# repeat: safe"},
		{"pause: 30s", "pause: 40s"},
		{"shutdown: spare", "shutdown: files"},
		{"  - settle: db\n", ""},
		{"  spare:\n", "  spare:\n  more:\n"},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if changed == string(text) {
			t.Fatalf("%q is not in the file", change[0])
		}
		meaning := meaningOfText(t, changed)
		if before, same := seen[meaning]; same {
			t.Errorf("%q in place of %q means the same as %s", change[1], change[0], before)
		}
		seen[meaning] = change[1]
	}
}
