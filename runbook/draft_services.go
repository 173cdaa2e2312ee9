package runbook

import (
	"slices"
	"strings"
	"unicode"

	"lifeboat"
)

// serviceGuess is what a machine with such a name usually serves.
type serviceGuess struct {
	words []string
	what  string
	// tier orders the guesses: what others sign in at and look names up with comes
	// first.
	tier   int
	checks []string
}

// serviceGuesses are tried from the top. The ports are those that the services
// have where nobody changed them.
var serviceGuesses = []serviceGuess{
	{[]string{"dc", "ad", "adds", "ldap", "ipa", "freeipa", "samba", "directory"}, "a directory", 1, []string{"tcp: 389", "tcp: 53"}},
	{[]string{"dns", "ns", "bind", "resolver", "dhcp"}, "DNS or DHCP", 1, []string{"tcp: 53"}},
	{[]string{"pg", "postgres", "postgresql", "psql"}, "PostgreSQL", 2, []string{"tcp: 5432"}},
	{[]string{"mysql", "maria", "mariadb"}, "MySQL or MariaDB", 2, []string{"tcp: 3306"}},
	{[]string{"mssql", "sqlserver"}, "SQL Server", 2, []string{"tcp: 1433"}},
	{[]string{"oracle", "ora"}, "Oracle", 2, []string{"tcp: 1521"}},
	{[]string{"mongo", "mongodb"}, "MongoDB", 2, []string{"tcp: 27017"}},
	{[]string{"redis", "valkey"}, "Redis", 2, []string{"tcp: 6379"}},
	{[]string{"db", "database", "sql"}, "a database", 2, nil},
	{[]string{"file", "files", "fileserver", "nas", "smb", "share", "shares"}, "a file server", 2, []string{"tcp: 445"}},
	{[]string{"nfs"}, "a file server", 2, []string{"tcp: 2049"}},
	{[]string{"mail", "mx", "smtp", "exchange", "imap", "zimbra", "groupware"}, "a mail server", 3, []string{"tcp: 25"}},
	{[]string{"web", "www", "http", "nginx", "apache", "proxy", "shop", "intranet", "wiki"}, "a web server", 3, []string{"http: /"}},
	{[]string{"app", "erp", "crm", "api"}, "an application", 3, nil},
}

// guessService goes by the names of a machine; the second result says that one of
// them told something.
func guessService(m lifeboat.Machine) (serviceGuess, bool) {
	words := append(nameWords(m.HostName), nameWords(m.Name)...)
	for _, g := range serviceGuesses {
		if slices.ContainsFunc(words, func(w string) bool { return slices.Contains(g.words, w) }) {
			if len(g.checks) == 0 {
				g.checks = usualChecks(m)
			}
			return g, true
		}
	}
	return serviceGuess{tier: 3, checks: usualChecks(m)}, false
}

// usualChecks ask whether the system is up.
func usualChecks(m lifeboat.Machine) []string {
	switch m.GuestFamily {
	case "windows":
		return []string{"tcp: 3389  # a guess: its remote desktop"}
	case "linux", "bsd":
		return []string{"tcp: 22  # a guess: its secure shell; its service's port says more"}
	}
	return []string{"ping: true  # its service's port would say more"}
}

// nameWords are the words of a host's name, without digits and domain: "SRV-DB01.corp"
// is srv and db.
func nameWords(name string) []string {
	first, _, _ := strings.Cut(strings.ToLower(name), ".")
	return strings.FieldsFunc(first, func(r rune) bool { return !unicode.IsLetter(r) })
}
