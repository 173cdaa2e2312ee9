package runbook

// nearestOf is the known word that a mistyped one probably means; empty: none is
// near enough. It counts the letters that were left out, added, changed or swapped.
func nearestOf(word string, known []string) string {
	best, least := "", len([]rune(word))/3+1
	for _, k := range known {
		if d := distance([]rune(word), []rune(k)); k != word && d < least+1 && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// distance is how many letters two words differ by.
func distance(a, b []rune) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		next[0] = i + 1
		for j := range b {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(change, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
