// PKI.js's verdict: judge.mjs query reply data root.pem; prints "valid", or fails.
import { readFileSync } from "node:fs";
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";

pkijs.setEngine("node", new pkijs.CryptoEngine({ name: "node", crypto: globalThis.crypto }));

const bytes = (file) => new Uint8Array(readFileSync(file)).buffer;
const der = (pem) => {
  const text = readFileSync(pem, "ascii").replace(/-----[A-Z ]+-----|\s/g, "");
  return new Uint8Array(Buffer.from(text, "base64")).buffer;
};
const [query, reply, data, root] = process.argv.slice(2);

const request = pkijs.TimeStampReq.fromBER(bytes(query));
const response = pkijs.TimeStampResp.fromBER(bytes(reply));
if (response.status.status !== pkijs.PKIStatus.granted) throw new Error(`status ${response.status.status}`);
const signed = new pkijs.SignedData({ schema: response.timeStampToken.content });
const info = pkijs.TSTInfo.fromBER(signed.encapContentInfo.eContent.getValue());
if (!info.messageImprint.hashedMessage.isEqual(request.messageImprint.hashedMessage)) throw new Error("imprint");
if (request.nonce && !info.nonce.isEqual(request.nonce)) throw new Error("nonce");

const verdict = await signed.verify({
  signer: 0,
  checkChain: true,
  data: bytes(data),
  trustedCerts: [pkijs.Certificate.fromBER(der(root))],
  checkDate: info.genTime,
  extendedMode: true,
});
if (!verdict.signatureVerified || verdict.signerCertificateVerified === false) throw new Error(verdict.message);
console.log("valid");
