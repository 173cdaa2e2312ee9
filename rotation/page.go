package rotation

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"lifeboat"
)

// pageWidth fits any printer and any terminal.
const pageWidth = 72

// page collects the lines of a printed page.
type page struct{ out strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }
func (p *page) gap()                            { p.out.WriteByte('\n') }

func (p *page) title(text string) {
	p.line("%s", text)
	p.line("%s", strings.Repeat("=", min(pageWidth, utf8.RuneCountInString(text))))
	p.gap()
}

func (p *page) heading(text string) {
	p.gap()
	p.line("%s", text)
	p.line("%s", strings.Repeat("-", min(pageWidth, utf8.RuneCountInString(text))))
}

// paragraph breaks a text into lines. One that begins with blanks keeps its own
// line as it is: it is a row of a table.
func (p *page) paragraph(text string) {
	if strings.HasPrefix(text, " ") {
		p.line("%s", text)
		return
	}
	for _, line := range wrap(text, pageWidth) {
		p.line("%s", line)
	}
}

func (p *page) fact(name, value string) {
	if value == "" {
		return
	}
	for i, line := range wrap(value, pageWidth-14) {
		if i > 0 {
			name = ""
		}
		p.line("  %-11s %s", name, line)
	}
}

func (p *page) command(text string) { p.line("    %s", text) }

func (p *page) steps(steps []step) {
	for i, s := range steps {
		p.heading(fmt.Sprintf("STEP %d: %s", i+1, s.Title))
		for _, text := range s.Why {
			p.paragraph(text)
		}
		p.gap()
		for _, c := range s.Commands {
			p.command(c)
		}
		p.gap()
		for _, text := range s.Remarks {
			p.paragraph(text)
		}
	}
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// startHere is the text that a finder of the drive reads. It holds no hash to
// trust and no secret.
func startHere(f SheetFacts) string {
	var p page
	p.title("START HERE")
	if lifeboat.IsTrial(f.Drive.SiteID) {
		p.paragraph("TRIAL. This drive was made to try things out. It protects nothing.")
		p.gap()
	}
	p.paragraph("This drive holds complete copies of servers, so that they can be started again after a disaster. The copies are encrypted: without a secret that is kept elsewhere nobody can read them.")
	p.gap()
	p.fact("Drive", f.Drive.Label)
	p.fact("Id", f.Drive.ID)
	p.fact("Contact", orUnknown(f.Contact))
	p.fact("Company", f.CompanyName)
	p.fact("Made", f.Drive.CreatedAt.UTC().Format(time.DateOnly))
	p.heading("IF YOU FOUND THIS DRIVE")
	p.paragraph("Please call the contact above and say the id. The drive is of no use to anybody else.")
	p.heading("IF A COMPUTER OFFERS TO FORMAT, INITIALISE OR REPAIR THIS DRIVE")
	p.paragraph("Say no. Windows and macOS cannot read every file system of Linux and take it for empty. Formatting destroys the copies.")
	p.heading("TO START THE SERVERS AGAIN")
	p.paragraph("You need four things:")
	p.paragraph("  1. this drive, or another one of the same set")
	p.paragraph("  2. the secret of the drives (words, kept apart from the drives)")
	p.paragraph("  3. the printed recovery sheet, to check the program")
	p.paragraph("  4. a 64-bit computer with Linux and enough memory for the servers;")
	p.paragraph("     a rented one will do, or Linux started from a USB stick")
	p.steps(recoverySteps(f))
	installation(&p)
	return p.out.String()
}

// RecoverySheet is the page to print and to keep apart from the drives: the
// steps of a recovery and the hashes that tell the right program from another
// one. With SheetFacts.Secret it opens the drives of its site; it then must
// never lie in one box with a drive.
func RecoverySheet(f SheetFacts) string {
	var p page
	p.title("RECOVERY SHEET")
	if lifeboat.IsTrial(f.Drive.SiteID) {
		p.paragraph("TRIAL. This sheet belongs to a trial, which protects nothing.")
		p.gap()
	}
	p.paragraph("Keep this sheet on paper, and never in one box with a drive. It says how the servers on the drives are started again on any computer with Linux, and how to know that the program on a drive is the right one.")
	p.gap()
	p.fact("Drive", f.Drive.Label)
	p.fact("Id", f.Drive.ID)
	p.fact("Site", f.Drive.SiteID)
	p.fact("Contact", orBlank(f.Contact))
	p.fact("Company", f.CompanyName)
	p.fact("Opens for", strings.Join(f.Slots, ", "))
	p.fact("Program", f.Version)
	if !f.PrintedAt.IsZero() {
		p.fact("Printed", f.PrintedAt.UTC().Format(time.DateOnly))
	}
	if f.Secret != "" {
		p.heading("THE SECRET")
		p.paragraph("Type it as it stands here, with one blank between the words:")
		p.gap()
		p.command(f.Secret)
	}
	if f.Secret == "" {
		p.heading("THE SECRET")
		p.paragraph("Write it here by hand if this sheet is kept where nobody finds it beside a drive; else write where it is kept:")
		p.gap()
		p.gap()
		p.line("    %s", strings.Repeat("_", pageWidth-4))
	}
	p.heading("THE PROGRAM")
	if len(f.Programs) == 0 {
		p.paragraph("The drives carry no copy of the program.")
	}
	for _, program := range f.Programs {
		p.line("  %s, SHA-256:", program.File)
		p.command(program.SHA256)
	}
	p.paragraph("Compare with these, on paper. A checksum on the drive itself proves nothing: who can change the program can change that too.")
	p.steps(recoverySteps(f))
	installation(&p)
	return p.out.String()
}

func installation(p *page) {
	p.heading("IF QEMU IS MISSING")
	p.paragraph("QEMU runs the servers. If the program says that it is missing, install it; the computer needs the internet for that.")
	p.gap()
	for _, d := range distributions {
		p.line("  %s:", d.Name)
		p.command(d.Command)
	}
}

func orUnknown(contact string) string {
	if contact == "" {
		return "(none was given)"
	}
	return contact
}

// orBlank leaves room for a pen.
func orBlank(contact string) string {
	if contact == "" {
		return strings.Repeat("_", 40)
	}
	return contact
}
