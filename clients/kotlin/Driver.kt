/** Puts `Imgate.kt` to the test: reads a job per line, writes a result per line (see ../README.md). */
package imgate

import java.io.IOException
import java.net.URI
import java.util.Base64

private fun decode(text: String): ByteArray = Base64.getDecoder().decode(text)

private fun key(f: List<String>): String =
    deriveKey(decode(f[0]), f[1]).joinToString("") { "%02x".format(it) }

private fun sign(f: List<String>): String {
    val session = Session(f[1], decode(f[0]), 1)
    val body = if (f[4] == "-") null else decode(f[4])
    val headers = signatureHeaders(session, f[2], URI(f[3]), body, f[5].toLong(), f[6])
    return listOf("Content-Digest", "Signature-Input", "Signature").joinToString("\t") { headers[it] ?: "-" }
}

private fun token(f: List<String>): String = sessionToken(Session(f[1], decode(f[0]), f[3].toInt()), f[2].toLong())

private fun outcome(client: Client, path: String, json: String): String =
    try {
        client.post(path, json).let { "${it.status} ${it.errCode}" }
    } catch (error: IOException) {
        "error"
    }

/** Posts twice by a clock that is behind, then makes a token by it. */
private fun post(f: List<String>): String {
    val session = Session(f[2], decode(f[1]), f[3].toInt())
    val client = Client(f[0], session) { System.currentTimeMillis() / 1000 - f[4].toLong() }
    val outcomes = List(2) { outcome(client, f[5], f[6]) }
    return (outcomes + client.sessionToken()).joinToString("\t")
}

fun main() {
    val jobs = mapOf("key" to ::key, "sign" to ::sign, "token" to ::token, "post" to ::post)
    for (line in generateSequence(::readLine)) {
        val fields = line.split("\t")
        println(jobs.getValue(fields[0])(fields.drop(1)))
    }
}
