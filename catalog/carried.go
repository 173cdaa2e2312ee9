package catalog

// carried are the tables that the extract holds, in its order. What a drive's
// tables say is taken drive by drive: from whoever saw the drive last.
var carried = []carriedTable{
	{name: "drives", driveColumn: "id"},
	{name: "points", driveColumn: "drive_id"},
	{name: "drive_documents", driveColumn: "drive_id"},
	{name: "suspects", driveColumn: "drive_id"},
	{name: "runs"},
	{name: "run_failures"},
	{name: "machine_ids"},
	{name: "machines"},
	{name: "holds"},
	{name: "proofs"},
	{name: "faults"},
	{name: "drive_facts"},
	{name: "documents"},
	{name: "witnesses"},
	{name: "key_changes"},
	{name: "key_changes_on_drives", conflict: `DO UPDATE SET applied_at = coalesce(applied_at, excluded.applied_at),
		trouble = iif(coalesce(applied_at, excluded.applied_at) IS NULL, trouble, '')`},
	{name: "key_slots", driveColumn: "drive_id"},
	{name: "ledger_forks"},
	{name: "drills", conflict: laterDrill},
}

// excluded are the tables that no drive carries, each with its reason. A table is
// here or in carried; a test sees to it.
var excluded = map[string]string{
	"goose_db_version": "the program makes it itself",
	"sqlite_sequence":  "SQLite makes it itself",
	"host_notes":       "what a host noted is wrong when it is old; without it a host's machines are read whole once",
	"ledger":           "it lies beside the extract, whole and as its own text, so that an auditor can read it",
}

// carriedTable is a table of the extract.
type carriedTable struct {
	name string
	// driveColumn names the drive that a row is about; empty where rows of
	// several sources stand beside each other by their keys.
	driveColumn string
	// conflict is what becomes of a row that both have, where neither side's simply
	// counts. What a drive was given it keeps, whoever of the two did not know it:
	// a change of its keys is made once.
	conflict string
}
