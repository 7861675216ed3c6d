// Package crash names the places where a power cut would hurt most, so that a test can die there.
//
// A crash point is a call, crash.Here("journal.synced"), between two steps whose order matters. In a normal build it is
// an empty function that the compiler removes. Built with the tag crashtest, the process kills itself with SIGKILL when
// it passes the point that the environment names:
//
//	SOUK_CRASH=journal.synced      at the first passing
//	SOUK_CRASH=journal.synced:3    at the third
//
// SIGKILL leaves no chance to tidy up: no deferred call runs, no buffer is flushed. What the operating system already
// holds survives it, so a crash point tests the order of steps, not whether the disk was synced.
package crash
