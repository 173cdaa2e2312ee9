package rotation_test

import (
	"html"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/rotation"
)

func TestACertificateSaysWhatWasDestroyedAndWhatNot(t *testing.T) {
	d := rotation.Destruction{Drive: lifeboat.Drive{ID: strings.Repeat("a1", 16), Label: "<b>A\nDone  all"}, Serial: "WD-1234", Site: "Müller & Söhne",
		Signer: "Anna", User: "root", Computer: "control", At: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Slots: 4, Overwritten: true, LastCopies: []string{"old-web"}}
	page, err := rotation.CertificateHTML(d)
	if err != nil {
		t.Fatal(err)
	}
	text := rotation.CertificateText(d)
	for _, want := range []string{d.Drive.ID, "WD-1234", "not known", "Anna", "root on control", "2026-11-20 12:00:00 UTC", "NIST SP 800-88", "4 files", "read back", "old-web", "wear levelling", "Copies of the drive"} {
		if !strings.Contains(text, want) || !strings.Contains(html.UnescapeString(page), want) {
			t.Errorf("the certificate lacks %q", want)
		}
	}
	if strings.Contains(page, "<b>") || strings.Contains(text, "\nDone  all") {
		t.Error("a label writes lines of its own")
	}
	d.Overwritten, d.FromMemory = false, "it is a network share"
	if text := rotation.CertificateText(d); !strings.Contains(text, "could not be written over") || !strings.Contains(text, "a network share") {
		t.Errorf("it claims more than was done: %s", text)
	}
}
