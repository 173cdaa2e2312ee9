package rotation

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"lifeboat"
)

// Destruction is what a certificate of destruction tells.
type Destruction struct {
	Drive lifeboat.Drive
	// Model and Serial are what the disk, or the dock that it is in, calls itself;
	// empty: not known.
	Model, Serial string
	Site          string
	// Signer is who says so; User recorded it, on Computer.
	Signer, User, Computer string
	At                     time.Time
	// Slots counts the files that held the key; Overwritten says that they were
	// written over and read back before they were removed. FromMemory says why the
	// reading back may not have come from the medium.
	Slots       int
	Overwritten bool
	FromMemory  string
	// LastCopies are the machines of which it held the last verified copy.
	LastCopies []string
}

// certificateLine is one fact of a certificate.
type certificateLine struct{ Name, Text string }

func (d Destruction) lines() []certificateLine {
	known := func(text string) string {
		if text == "" {
			return "not known"
		}
		return text
	}
	how := "The files were removed. They could not be written over where they lay."
	if d.Overwritten {
		how = "Each file was written over with random bytes where it lay, read back as those bytes, and removed. The folder was read back as empty."
	}
	if d.FromMemory != "" {
		how += " The reading back may not have come from the medium: " + d.FromMemory + "."
	}
	lines := []certificateLine{
		{"Drive", d.Drive.Label}, {"Id", d.Drive.ID}, {"Made", d.Drive.CreatedAt.UTC().Format(time.DateOnly)},
		{"Model", known(d.Model)}, {"Serial number", known(d.Serial)}, {"Site", d.Site},
		{"When", d.At.UTC().Format("2006-01-02 15:04:05 UTC")}, {"Signed", known(d.Signer)}, {"Recorded", d.User + " on " + d.Computer},
		{"Method", "Cryptographic erase as in NIST SP 800-88 Rev. 1: everything on the drive is sealed with one key, and every copy of that key on the drive was destroyed."},
		{"Done", fmt.Sprintf("%d files that held the key. %s", d.Slots, how)},
	}
	if len(d.LastCopies) > 0 {
		lines = append(lines, certificateLine{"Last copies", "It held the last verified copy of: " + strings.Join(d.LastCopies, ", ") + "."})
	}
	return lines
}

// uncovered is what a destruction does not reach. It is on every certificate.
var uncovered = []string{
	"Copies of the drive, or of a key slot, that were made before: they open with the secrets that opened the drive then.",
	"Older bytes that flash keeps elsewhere by wear levelling, or a file system that copies on write (btrfs). Where that matters, destroy the medium as well.",
	"What the drive has in clear: its label, its id, START-HERE.txt and the programs. They hold no data of any machine.",
	"Copies of the machines on other drives, and the secrets themselves.",
}

// CertificateText is the certificate of a destruction as plain text.
func CertificateText(d Destruction) string {
	var out strings.Builder
	out.WriteString("CERTIFICATE OF DESTRUCTION\n\n")
	for _, l := range d.lines() {
		fmt.Fprintf(&out, "%-14s %s\n", l.Name, oneLineOf(l.Text))
	}
	out.WriteString("\nThis does not cover:\n")
	for _, text := range uncovered {
		fmt.Fprintf(&out, "- %s\n", text)
	}
	out.WriteString("\nSignature, date: ______________________________\n")
	return out.String()
}

// oneLineOf keeps a name from looking like another line.
func oneLineOf(text string) string { return strings.Join(strings.Fields(text), " ") }

var certificateTemplate = template.Must(template.New("certificate").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Certificate of destruction</title>
<style>
@page { size: A4; margin: 20mm }
body { font: 11pt/1.4 sans-serif; max-width: 170mm; margin: 10mm auto; color: #000; background: #fff }
th { text-align: left; vertical-align: top; padding: 1mm 6mm 1mm 0; white-space: nowrap; font-weight: 600 }
td { padding: 1mm 0; overflow-wrap: anywhere }
.sign { margin-top: 20mm; border-top: 1px solid #000; width: 90mm }
</style></head><body>
<h1>Certificate of destruction</h1>
<table>{{range .Lines}}<tr><th>{{.Name}}</th><td>{{.Text}}</td></tr>
{{end}}</table>
<h2>This does not cover</h2>
<ul>{{range .Uncovered}}<li>{{.}}</li>
{{end}}</ul>
<p class="sign">Signature, date</p>
</body></html>
`))

// CertificateHTML is the certificate of a destruction as a page for A4 and Letter
// that needs no network.
func CertificateHTML(d Destruction) (string, error) {
	var out strings.Builder
	err := certificateTemplate.Execute(&out, struct {
		Lines     []certificateLine
		Uncovered []string
	}{d.lines(), uncovered})
	if err != nil {
		return "", fmt.Errorf("fill the certificate: %w", err)
	}
	return out.String(), nil
}
