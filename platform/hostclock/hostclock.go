// Package hostclock tells of the host's sleep: how long it has slept so far, and
// when it has woken. It knows nothing of guests.
package hostclock
