// PKI.js asks for the status of certificates: ocsp.mjs URL folder name...; prints "name:good" and so on, or fails.
import { readFileSync } from "node:fs";
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";

pkijs.setEngine("node", new pkijs.CryptoEngine({ name: "node", crypto: globalThis.crypto }));

const NONCE = "1.3.6.1.5.5.7.48.1.2";
const STATUSES = ["good", "revoked", "unknown"];
const [url, folder, ...names] = process.argv.slice(2);
const load = (name) => pkijs.Certificate.fromBER(new Uint8Array(readFileSync(`${folder}/${name}.der`)).buffer);
const hex = (buffer) => Buffer.from(buffer).toString("hex");
const issuer = load("issuing");
const root = load("root");

for (const name of names) {
  const certificate = load(name);
  const request = new pkijs.OCSPRequest();
  await request.createForCertificate(certificate, { hashAlgorithm: "SHA-256", issuerCertificate: issuer });
  const nonce = new asn1js.OctetString({ valueHex: crypto.getRandomValues(new Uint8Array(32)).buffer }).toBER();
  request.tbsRequest.requestExtensions = [new pkijs.Extension({ extnID: NONCE, extnValue: nonce })];
  const headers = { "Content-Type": "application/ocsp-request" };
  const answer = await fetch(url, { method: "POST", headers, body: request.toSchema(true).toBER() });
  const response = pkijs.OCSPResponse.fromBER(await answer.arrayBuffer());
  if (response.responseStatus.valueBlock.valueDec !== 0) throw new Error("no answer");
  const basic = pkijs.BasicOCSPResponse.fromBER(response.responseBytes.response.getValue());
  if (!(await basic.verify({ trustedCerts: [root, issuer] }))) throw new Error("signature");
  const echoed = basic.tbsResponseData.responseExtensions.find((item) => item.extnID === NONCE);
  if (hex(echoed.extnValue.getValue()) !== hex(nonce)) throw new Error("nonce");
  const { isForCertificate, status } = await response.getCertificateStatus(certificate, issuer);
  if (!isForCertificate) throw new Error("another certificate");
  const reason = basic.tbsResponseData.responses[0].certStatus.valueBlock.value?.[1]?.valueBlock.value[0].valueBlock.valueDec;
  console.log(`${name}:${STATUSES[status]}${reason === undefined ? "" : `:${reason}`}`);
}
